"""What a server answers in time when more is asked of its engine than it can do."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import calls
import h2
import question
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers.busy import CAPACITY_PER_S
from process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from material import Material

FACTORS = (1.0, 1.5, 2.0, 3.0, 4.0)
"""What is offered, in multiples of what the engine can do."""

DEADLINE_S = 0.5
CONNECTIONS = 16
_METHOD = f"/{question.SERVICE}/{question.METHOD}"
_TIMEOUT = ("grpc-timeout", f"{int(DEADLINE_S * 1000)}m")
_TICK_S = 0.005
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Load:
    """What became of an offered load.

    Args:
        factor: the load, in multiples of what the engine can do.
        offered_per_s: calls that were made a second.
        goodput_per_s: of them answered with OK within their deadline.
        refused: the share refused with UNAVAILABLE within their deadline.
        late: the share of all others: answered or refused too late, or not at all.
        refused_p99_ms: what one refusal of a hundred took longer than; 0 without any.
        ok_p99_ms: what one answer of a hundred took longer than.
    """

    factor: float
    offered_per_s: float
    goodput_per_s: float
    refused: float
    late: float
    refused_p99_ms: float
    ok_p99_ms: float


async def measure(
    material: Material,
    cores: tuple[int, int],
    otlp_port: int,
    *,
    rounds: int,
    load_s: float,
    warm_up_s: float,
) -> Sequence[Load]:
    """Offer one load after the other, in rounds.

    Returns:
        Of each load the round with the median goodput.
    """
    arguments = [
        f"--directory={material.directory}",
        f"--log={material.directory / 'busy.log'}",
        f"--otlp=127.0.0.1:{otlp_port}",
    ]
    tls = material.client_tls("h2")
    message = pb.AskQuestionRequest(**question.FIELDS).SerializeToString()
    requests = [
        h2.Request(_METHOD, [_TIMEOUT, ("authorization", f"Bearer {token}")], message)
        for token in material.tokens
    ]
    with Process("peers.busy", cores[0], arguments) as server:
        callers = [await h2.connect(server.port, tls, calls.Caller) for _ in range(CONNECTIONS)]
        try:
            await _offer(callers, requests, 1.0, warm_up_s)
            offered = [
                [await _offer(callers, requests, factor, load_s) for factor in FACTORS]
                for _ in range(rounds)
            ]
        finally:
            for caller in callers:
                caller.close()
    return [
        sorted(each, key=lambda load: load.goodput_per_s)[rounds // 2]
        for each in zip(*offered, strict=True)
    ]


async def _offer(
    callers: Sequence[calls.Caller], requests: Sequence[h2.Request], factor: float, load_s: float
) -> Load:
    """Make calls at a rate, whatever becomes of those before."""
    ended: list[tuple[int, float]] = []
    rate_per_s = factor * CAPACITY_PER_S

    async def call(number: int) -> None:
        began_s = time.perf_counter()
        caller = callers[number % len(callers)]
        reply = await caller.call(requests[number % len(requests)])
        ended.append((reply.status, time.perf_counter() - began_s))

    started_s = time.perf_counter()
    made = 0
    async with asyncio.TaskGroup() as running:
        while (elapsed_s := time.perf_counter() - started_s) < load_s:
            due = int(elapsed_s * rate_per_s)
            for number in range(made, due):
                running.create_task(call(number))
            made = max(made, due)
            await asyncio.sleep(_TICK_S)
    return _load(factor, load_s, ended)


def _load(factor: float, load_s: float, ended: Sequence[tuple[int, float]]) -> Load:
    in_time = [(status, took_s) for status, took_s in ended if took_s <= DEADLINE_S]
    statuses = Counter(status for status, _ in in_time)
    known = statuses[calls.OK] + statuses[calls.UNAVAILABLE]
    return Load(
        factor=factor,
        offered_per_s=len(ended) / load_s,
        goodput_per_s=statuses[calls.OK] / load_s,
        refused=statuses[calls.UNAVAILABLE] / len(ended),
        late=(len(ended) - known) / len(ended),
        refused_p99_ms=_p99_ms([s for status, s in in_time if status == calls.UNAVAILABLE]),
        ok_p99_ms=_p99_ms([s for status, s in in_time if status == calls.OK]),
    )


def _p99_ms(times_s: Sequence[float]) -> float:
    return sorted(times_s)[len(times_s) * 99 // 100] * _MS_PER_S if times_s else 0.0
