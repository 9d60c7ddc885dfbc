"""Clients that are no pods of the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chart.helm import settings_text
from tests.cluster.issuer import Issuer, tls_files
from tests.cluster.release import GRPC, client_certificate

from kotaemon_grpc.client import AgentClient, RetryPolicy, TlsFiles, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster

QUESTION = "On which days of the year does no boat sail?"
ONCE = RetryPolicy(attempts=1)


async def test_client_gets_a_cited_answer_of_every_pod(
    cluster: Cluster, client_tls: TlsFiles, server_name: str
) -> None:
    for pod in cluster.pods():
        target = cluster.address(pod, GRPC)
        async with AgentClient(target, tls=client_tls, server_name=server_name) as client:
            answer = await client.ask(QUESTION)
        assert "No boat sails on Christmas Day" in answer.text
        assert "ferry-timetable" in answer.citations[0].uri


async def test_client_without_a_certificate_that_is_trusted_is_refused(
    cluster: Cluster,
    manifests: list[Manifest],
    client_tls: TlsFiles,
    server_name: str,
    tmp_path: Path,
) -> None:
    of_another_ca = Issuer(tmp_path / "other").secret(client_certificate(manifests))
    stranger = tls_files(of_another_ca, tmp_path / "stranger")
    target = cluster.address(cluster.pods()[0], GRPC)
    for tls in (
        TlsFiles(client_tls.ca),
        TlsFiles(client_tls.ca, stranger.certificate, stranger.key),
    ):
        async with AgentClient(target, tls=tls, server_name=server_name, retry=ONCE) as client:
            with pytest.raises(UnavailableError) as caught:
                await client.ask(QUESTION)
        assert not caught.value.reason  # no server took the call
    async with AgentClient(target, tls=client_tls, server_name=server_name, retry=ONCE) as client:
        assert (await client.ask(QUESTION)).citations


def test_key_set_and_receiver_of_traces_are_out_of_reach(manifests: list[Manifest]) -> None:
    # What the other tests show, they show although the server can have neither.
    settings = settings_text(manifests)
    assert "https://login.example.org/" in settings
    assert "otel-collector.observability:4317" in settings


def test_pod_of_helm_test_calls_the_release(cluster: Cluster) -> None:
    ended = cluster.run_test()
    assert ended.status == 0, ended.log
    assert "ferry-timetable" in ended.log
