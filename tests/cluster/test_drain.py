"""Pods that are stopped under load."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from tests.chart.helm import workload
from tests.cluster.release import GRPC, OPERATIONS
from tests.cluster.waiting import until

from kotaemon_grpc.client import AgentClient, ClientError, Hooks

if TYPE_CHECKING:
    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster

    from kotaemon_grpc.client import TlsFiles

WORKERS = 4
PAUSE_S = 0.05  # all workers together stay below limits.calls_per_second of one pod
CALLS = 100
LIMIT_S = 60


class Load(Hooks):
    """Questions without end, and what became of them."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[ClientError] = []
        self.repeated = 0
        self.is_over = False

    def on_retry(self, *_: object) -> None:
        self.repeated += 1

    async def ask(self, client: AgentClient) -> None:
        while not self.is_over:
            try:
                answer = await client.ask("How long before departure must passengers be there?")
                assert answer.citations
                self.answered += 1
            except ClientError as error:
                self.failed.append(error)
            await asyncio.sleep(PAUSE_S)


def handled(address: str) -> float:
    with urlopen(f"http://{address}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "grpc_server_handled_total"
    )


async def test_no_call_fails_when_a_pod_is_stopped(
    cluster: Cluster,
    manifests: list[Manifest],
    client_tls: TlsFiles,
    server_name: str,
    figures: list[tuple[str, str, str]],
) -> None:
    pods = await asyncio.to_thread(cluster.pods)
    targets = [cluster.address(pod, GRPC) for pod in pods]
    counts = [(each, handled(each)) for each in (cluster.address(p, OPERATIONS) for p in pods)]
    load = Load()
    client = AgentClient(targets, tls=client_tls, server_name=server_name, hooks=[load])
    async with client, asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(load.ask(client))
        try:
            for address, before in counts:
                busy = lambda address=address, before=before: handled(address) >= before + 10  # noqa: E731 - read where it is used
                await asyncio.to_thread(until, "each pod is asked", busy, LIMIT_S)
            ended = await asyncio.to_thread(cluster.stop, pods[1])
            enough = load.answered + CALLS
            await asyncio.to_thread(
                until, "the other pod answers", lambda: load.answered >= enough, LIMIT_S
            )
        finally:
            load.is_over = True
    figures.append(("calls while one of two pods was stopped", str(load.answered), ""))
    figures.append(("calls repeated by the client", str(load.repeated), ""))
    figures.append(("calls failed", str(len(load.failed)), "0"))
    figures.append(("seconds from SIGTERM to the end", f"{ended.seconds:.1f}", ""))
    assert load.failed == []
    assert ended.status == 0, ended.log
    grace_s = workload(manifests)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert ended.seconds < grace_s
