"""Which calls are repeated, how often, and after what time."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref
from typing import Any

import grpc
import pytest

from kotaemon_grpc.client import (
    AgentClient,
    AuthenticationError,
    CallError,
    ConfigurationError,
    Hooks,
    RetryPolicy,
    UnavailableError,
)
from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

Code = grpc.StatusCode
OK = pb.AskQuestionResponse(answer=pb.Answer(text="so"))
DOWN = failure(Code.UNAVAILABLE)


@pytest.mark.parametrize(
    ("drawn", "longest_s", "waits_s"),
    [
        (0.0, 5.0, [0.0, 0.0, 0.0, 0.0]),
        (0.5, 5.0, [0.05, 0.1, 0.2, 0.4]),
        (1.0, 5.0, [0.1, 0.2, 0.4, 0.8]),
        (1.0, 0.3, [0.1, 0.2, 0.3, 0.3]),
    ],
)
async def test_a_wait_is_a_random_part_of_a_backoff_that_doubles(  # noqa: PLR0917 - pytest names them
    client_of: Any, script: Any, time: Any, drawn: float, longest_s: float, waits_s: list[float]
) -> None:
    transport = FakeTransport({"AskQuestion": script(DOWN)})
    time.drawn = drawn
    with pytest.raises(UnavailableError):
        await client_of(transport, retry=RetryPolicy(max_backoff_s=longest_s)).ask("why?")
    assert time.waits_s == pytest.approx(waits_s)
    assert len(transport.calls) == 5


async def test_a_call_that_fails_and_then_does_not_has_gone_well(
    client_of: Any, script: Any
) -> None:
    transport = FakeTransport({"AskQuestion": script(DOWN, DOWN, OK)})
    assert (await client_of(transport).ask("why?")).text == "so"
    assert len(transport.calls) == 3


@pytest.mark.parametrize(
    ("error", "is_repeated"),
    [
        (failure(Code.UNAVAILABLE, reason="STORAGE_UNAVAILABLE"), True),
        (failure(Code.RESOURCE_EXHAUSTED, retry_after_s=1), True),
        (failure(Code.RESOURCE_EXHAUSTED, retry_pushback_ms=10), True),
        (failure(Code.RESOURCE_EXHAUSTED, retry_after_s=1, retry_pushback_ms=-1), False),
        (failure(Code.RESOURCE_EXHAUSTED, reason="DOCUMENT_TOO_LARGE"), False),
        (failure(Code.UNAVAILABLE, retry_pushback_ms=-1), False),
        (failure(Code.UNAVAILABLE, retry_pushback_ms=2**31), False),
        (failure(Code.INTERNAL), True),
        (failure(Code.UNKNOWN), True),
        (failure(Code.CANCELLED), True),
        (failure(Code.INTERNAL, reason="INTERNAL"), False),
        (failure(Code.CANCELLED, reason="INTERNAL"), False),
        (failure(Code.DEADLINE_EXCEEDED), False),
        (failure(Code.INVALID_ARGUMENT), False),
        (failure(Code.NOT_FOUND), False),
        (failure(Code.ABORTED), False),
        (failure(Code.DATA_LOSS), False),
        (failure(Code.UNAUTHENTICATED, reason="CREDENTIALS_MISSING"), False),
    ],
    ids=lambda value: str(value) if isinstance(value, CallError) else "",
)
async def test_only_what_may_go_better_is_repeated(
    client_of: Any, script: Any, error: CallError, *, is_repeated: bool
) -> None:
    transport = FakeTransport({"AskQuestion": script(error, OK)})
    if is_repeated:
        assert (await client_of(transport).ask("why?")).text == "so"
    else:
        with pytest.raises(CallError) as raised:
            await client_of(transport).ask("why?")
        assert raised.value is error
    assert len(transport.calls) == 1 + is_repeated


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (failure(Code.UNAVAILABLE, retry_after_s=3), 3.05),
        (failure(Code.RESOURCE_EXHAUSTED, retry_pushback_ms=700), 0.75),
        (failure(Code.RESOURCE_EXHAUSTED, retry_after_s=3, retry_pushback_ms=700), 0.75),
        (failure(Code.RESOURCE_EXHAUSTED, retry_pushback_ms=0), 0.05),
    ],
)
async def test_what_the_server_asks_for_is_waited_and_a_random_part_more(
    client_of: Any, script: Any, time: Any, error: CallError, wait_s: float
) -> None:
    await client_of(FakeTransport({"AskQuestion": script(error, OK)})).ask("why?")
    assert time.waits_s == pytest.approx([wait_s])


async def test_the_deadline_is_one_for_all_attempts_and_waits(
    client_of: Any, script: Any, time: Any
) -> None:
    def late(_: object) -> None:
        time.now_s += 10.0
        raise failure(Code.UNAVAILABLE, retry_after_s=5)

    transport = FakeTransport({"AskQuestion": script(late)})
    time.drawn = 0.0
    with pytest.raises(UnavailableError):
        await client_of(transport, timeout_s=44.0).ask("why?")
    # After 10 s for each attempt and 5 s between them the next wait would end at 45 s.
    assert [call.timeout_s for call in transport.calls] == pytest.approx([44.0, 29.0, 14.0])
    assert time.waits_s == [5.0, 5.0]


async def test_a_wait_that_would_outlast_the_deadline_is_not_begun(
    client_of: Any, script: Any, time: Any
) -> None:
    transport = FakeTransport({"AskQuestion": script(failure(Code.UNAVAILABLE, retry_after_s=30))})
    with pytest.raises(UnavailableError) as raised:
        await client_of(transport).ask("why?", timeout_s=30.0)
    assert (len(transport.calls), time.waits_s) == (1, [])
    assert raised.value.retry_after_s == 30


async def test_a_client_whose_calls_fail_stops_repeating_until_they_go_well(
    client_of: Any, script: Any
) -> None:
    asked = script(DOWN)
    transport = FakeTransport({"AskQuestion": asked, "Search": lambda _: pb.SearchResponse()})
    client = client_of(transport, retry=RetryPolicy(budget_tokens=4, budget_ratio=1))

    async def attempts() -> int:
        before = len(asked.requests)
        with pytest.raises(UnavailableError):
            await client.ask("why?")
        return len(asked.requests) - before

    assert await attempts() == 2  # 4 tokens, of which more than 2 must be left
    assert await attempts() == 1
    await client.search("what")
    assert await attempts() == 1  # 1 and 1 earned, of which 1 is spent
    for _ in range(3):
        await client.search("what")
    assert await attempts() == 2


async def test_a_stream_that_was_refused_costs_nothing(client_of: Any, script: Any) -> None:
    refused = failure(Code.UNAVAILABLE, "RST_STREAM (Received RST_STREAM with error code 7)")
    asked = script(refused, refused, refused, DOWN, OK)
    policy = RetryPolicy(budget_tokens=3)  # of which more than 1.5 must be left
    client = client_of(FakeTransport({"AskQuestion": asked}), retry=policy)
    assert (await client.ask("why?")).text == "so"
    assert len(asked.requests) == 5


async def test_a_wait_ends_when_the_client_is_closed() -> None:
    waits = asyncio.Event()

    class Told(Hooks):
        def on_retry(self, *_: object) -> None:
            waits.set()

    error = failure(Code.UNAVAILABLE, retry_after_s=3000)

    def down(_: object) -> None:
        raise error

    transport = FakeTransport({"AskQuestion": down})
    client = AgentClient(tls=None, transport=transport, hooks=[Told()], timeout_s=6000)
    call = asyncio.create_task(client.ask("why?"))
    await waits.wait()
    await client.close()
    with pytest.raises(UnavailableError) as raised:
        await call
    assert raised.value is error
    assert len(transport.calls) == 1


async def test_nothing_keeps_the_error_of_a_call(client_of: Any) -> None:
    def down(_: object) -> None:
        raise failure(Code.UNAVAILABLE)

    client = client_of(FakeTransport({"AskQuestion": down}))

    async def failed() -> weakref.ref[UnavailableError]:
        try:
            await client.ask("why?")
        except UnavailableError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert (await failed())() is None
    finally:
        gc.enable()


class Tokens:
    """Credentials that are new whenever the earlier ones are forgotten."""

    def __init__(self) -> None:
        self.issued = 1

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.issued}"),)

    def expired(self) -> None:
        self.issued += 1


EXPIRED = failure(Code.UNAUTHENTICATED, reason="CREDENTIALS_EXPIRED")


async def test_expired_credentials_are_got_anew_once_and_at_once(
    client_of: Any, script: Any, time: Any
) -> None:
    transport = FakeTransport({"AskQuestion": script(EXPIRED, OK)})
    assert (await client_of(transport, credentials=Tokens()).ask("why?")).text == "so"
    assert [call.metadata[0][1] for call in transport.calls] == ["Bearer 1", "Bearer 2"]
    assert time.waits_s == [0.0]


async def test_credentials_that_stay_expired_end_the_call(client_of: Any, script: Any) -> None:
    transport = FakeTransport({"AskQuestion": script(EXPIRED)})
    with pytest.raises(AuthenticationError):
        await client_of(transport, credentials=Tokens()).ask("why?")
    assert len(transport.calls) == 2


async def test_calls_that_are_refused_together_get_new_credentials_once(client_of: Any) -> None:
    refused = 0
    all_are_in = asyncio.Event()

    async def handle(_: object) -> pb.AskQuestionResponse:
        nonlocal refused
        if refused < 10:
            refused += 1
            if refused == 10:
                all_are_in.set()
            await all_are_in.wait()
            raise EXPIRED
        return OK

    tokens = Tokens()
    client = client_of(FakeTransport({"AskQuestion": handle}), credentials=tokens)
    await asyncio.gather(*(client.ask("why?") for _ in range(10)))
    assert tokens.issued == 2


async def test_a_task_that_is_cancelled_repeats_nothing(client_of: Any) -> None:
    begun = asyncio.Event()

    async def handle(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    transport = FakeTransport({"AskQuestion": handle})
    task = asyncio.create_task(client_of(transport).ask("why?"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(transport.calls) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": 101},
        {"initial_backoff_s": 0},
        {"max_backoff_s": math.inf},
        {"budget_tokens": -1},
        {"budget_ratio": math.nan},
    ],
)
def test_a_policy_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        RetryPolicy(**options)
