"""How often a principal may call."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc import error_details_pb2

from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.core.errors import RateLimited
from kotaemon_grpc.pipeline import rates
from kotaemon_grpc.pipeline.rates import Rates

if TYPE_CHECKING:
    from collections.abc import Iterator

WITH_EVENT = ["server_stream", "bidi_stream"]
KINDS = ["unary", "client_stream", *WITH_EVENT]


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time stands still but for what a test adds."""

    now_s = 1000.0

    def time(self) -> float:
        return self.now_s


class Bucketed:
    """Calls the guard as its callers would, and counts what it reports."""

    def __init__(self, calls_per_second: float, begin: Any) -> None:
        self.refused = 0
        self._guard = Rates(calls_per_second, self._on_refused)
        self._begin = begin

    def _on_refused(self) -> None:
        self.refused += 1

    def lets_in(
        self, principal: str, tenant: str = "acme", method: str = "s.S/M", *, most: int = 1000
    ) -> int:
        """Count how many calls are let in before the first that is not."""
        for count in range(most):
            call = self._begin(method)
            call.identity = Identity(principal, tenant, frozenset(), "none", math.inf)
            try:
                self._guard.admission(call.method)(call)
            except RateLimited:
                return count
        return most


@pytest.fixture
def run(beginning: Any) -> Iterator[Any]:
    """Run a function of a guard and of its clock: `run(50, deed)`."""
    with asyncio.Runner(loop_factory=Clock) as runner:

        def start(calls_per_second: float, deed: Any) -> None:
            async def main() -> None:
                deed(Bucketed(calls_per_second, beginning), runner.get_loop())

            runner.run(main())

        yield start


@pytest.mark.parametrize(
    ("calls_per_second", "burst"), [(50, 50), (1, 1), (0.25, 1), (2.5, 2), (500.0, 500)]
)
def test_as_many_as_in_a_second_may_come_at_once(
    calls_per_second: float, burst: int, run: Any
) -> None:
    def deed(guard: Bucketed, _clock: Clock) -> None:
        assert guard.lets_in("a") == burst
        assert guard.refused == 1
        assert guard.lets_in("a") == 0
        assert guard.refused == 2

    run(calls_per_second, deed)


@pytest.mark.parametrize(
    ("calls_per_second", "passed_s", "more"),
    [
        (4, 0.25, 1),
        (4, 0.5, 2),
        (4, 60, 4),
        (0.25, 3.99, 0),
        (0.25, 4, 1),
        (1, 0.99, 0),
        (500, 0.1001, 50),
    ],
)
def test_time_makes_room(calls_per_second: float, passed_s: float, more: int, run: Any) -> None:
    def deed(guard: Bucketed, clock: Clock) -> None:
        guard.lets_in("a")
        clock.now_s += passed_s
        assert guard.lets_in("a") == more

    run(calls_per_second, deed)


def test_principals_and_tenants_have_buckets_of_their_own(run: Any) -> None:
    def deed(guard: Bucketed, _clock: Clock) -> None:
        assert guard.lets_in("a") == 2
        assert guard.lets_in("b") == 2
        assert guard.lets_in("a", "other") == 2
        assert guard.lets_in("a") == 0

    run(2, deed)


def test_methods_share_a_bucket(run: Any) -> None:
    def deed(guard: Bucketed, _clock: Clock) -> None:
        assert guard.lets_in("a", method="s.S/M", most=1) == 1
        assert guard.lets_in("a", method="s.S/N") == 1
        assert guard.lets_in("a", method="t.T/M") == 0

    run(2, deed)


def test_the_oldest_bucket_goes_when_there_are_too_many(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "MAX_PRINCIPALS", 3)

    def deed(guard: Bucketed, _clock: Clock) -> None:
        for principal in ("a", "b", "c"):
            assert guard.lets_in(principal) == 1
        assert guard.lets_in("a") == 0
        assert guard.lets_in("d") == 1  # takes the place of a
        assert [guard.lets_in(principal) for principal in ("b", "c", "d")] == [0, 0, 0]
        assert guard.lets_in("a") == 1

    run(1, deed)


class Known:
    """A guard that knows everybody by a name."""

    def admission(self, _method: Any) -> Any:
        def admit(call: Any) -> None:
            call.identity = Identity(
                str(call.metadata["who"]), "acme", frozenset(), "none", math.inf
            )

        return admit


@pytest.mark.parametrize("shape", KINDS)
async def test_clients_are_told_when_to_come_back(shape: str, serving: Any) -> None:
    refusals: list[None] = []
    guards = [Known(), Rates(0.001, lambda: refusals.append(None))]
    who = {"metadata": (("who", "a"),)}
    async with serving(guards=guards) as served:
        assert (await served.run(shape, **who)).code == "OK"
        await served.recorder.end()
        outcome = await served.run(shape, silent=True, **who)
        call, code = await served.recorder.end()
        assert len(served.handlers.contexts) == 1
        assert (await served.run(shape, metadata=(("who", "b"),))).code == "OK"
    assert (outcome.code, outcome.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert (code, call.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    retry = outcome.failure.detail("RetryInfo")
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() >= 1_000_000  # a call in a thousand seconds
    trailers = dict(outcome.failure.error.trailing_metadata())
    assert trailers["grpc-retry-pushback-ms"] == str(retry.retry_delay.ToMilliseconds())
    assert (
        "0.001 calls a second" in outcome.failure.detail("QuotaFailure").violations[0].description
    )
    if shape in WITH_EVENT:
        assert outcome.messages[-1].failed == outcome.failure.status
    assert len(refusals) == 1
