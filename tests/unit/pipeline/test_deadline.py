"""How long calls of every shape of handler may last, on a real server.

No time is measured: limits are short, and what is waited for is the end that they bring.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kotaemon_grpc.pipeline import deadline
from kotaemon_grpc.pipeline.deadline import Deadlines, TimeLimits

SHORT_S = 0.05
CLIENTS_OWN_S = 0.2  # long enough for a call to arrive
ENDLESS_S = 3600.0
WITH_EVENT = ["server_stream", "bidi_stream"]
KINDS = ["unary", "client_stream", *WITH_EVENT]
STREAMS_OUT = [
    *WITH_EVENT,
    "plain_server_stream",
    "native_server_stream",
    "native_bidi_stream",
    "written_server_stream",
    "written_bidi_stream",
]
STREAMS_IN = [
    "client_stream",
    "bidi_stream",
    "plain_bidi_stream",
    "native_client_stream",
    "native_bidi_stream",
    "written_bidi_stream",
]
SHAPES = ["unary", "native_unary", *dict.fromkeys([*STREAMS_IN, *STREAMS_OUT])]
LARGE = "x" * 64 * 1024
MANY = 500  # of the large ones: more than all that stands between handler and client holds


def limits(**short: float) -> Deadlines:
    """Make the guard: all limits are far away but those that are given."""
    names = ("default_s", "max_s", "max_stream_s", "idle_s", "slow_reader_s")
    return Deadlines(TimeLimits(**{**dict.fromkeys(names, ENDLESS_S), **short}))


async def forever(_context: Any) -> None:
    await asyncio.Event().wait()


def assert_expired(outcome: Any, reason: str) -> None:
    assert (outcome.code, outcome.reason) == ("DEADLINE_EXCEEDED", reason)
    assert outcome.failure.status.message == outcome.failure.error.details()


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_clients_own_deadline(shape: str, serving: Any) -> None:
    async with serving(forever, guards=[limits()]) as served:
        outcome = await served.run(shape, timeout=CLIENTS_OWN_S)
        call, code = await served.recorder.end()
        await asyncio.wait(served.recorder.tasks)
        assert served.handlers.running == 0
    assert (outcome.code, code) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert call.deadline_s - call.started_s < ENDLESS_S


@pytest.mark.parametrize("shape", KINDS)
async def test_the_clients_own_deadline_where_the_server_sets_none(
    shape: str, serving: Any
) -> None:
    async with serving(forever) as served:
        outcome = await served.run(shape, timeout=CLIENTS_OWN_S)
        _, code = await served.recorder.end()
    assert (outcome.code, code) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("own_s", [None, ENDLESS_S])
@pytest.mark.parametrize("shape", SHAPES)
async def test_the_servers_deadline(shape: str, own_s: float | None, serving: Any) -> None:
    """It holds for a call that brings none, and for one whose own lies further away."""
    limit = {
        True: "max_stream_s",
        False: "default_s" if own_s is None else "max_s",
    }[shape in STREAMS_IN]
    async with serving(forever, messages=1, guards=[limits(**{limit: SHORT_S})]) as served:
        outcome = await served.run(shape, timeout=own_s)
        call, code = await served.recorder.end()
        await asyncio.wait(served.recorder.tasks)
        assert served.handlers.running == 0
    assert_expired(outcome, "DEADLINE_EXCEEDED")
    assert outcome.request_id == call.request_id
    assert call.deadline_s == call.started_s + SHORT_S
    assert (call.reason, code) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    if shape in WITH_EVENT:
        assert outcome.messages[-1].failed == outcome.failure.status
        assert outcome.messages[-1].sequence_number == call.sent == 2
    assert call.timer.cancelled()


async def test_handlers_know_the_deadline(serving: Any) -> None:
    async with serving(guards=[limits(default_s=60)]) as served:
        assert (await served.run("unary")).code == "OK"
        call, _ = await served.recorder.end()
    (context,) = served.handlers.contexts
    assert context.deadline_s == call.deadline_s == call.started_s + 60


@pytest.mark.parametrize("own_s", [None, ENDLESS_S / 2])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_ends_in_time_leaves_no_timer(
    shape: str, own_s: float | None, serving: Any
) -> None:
    async with serving(guards=[limits()]) as served:
        outcome = await served.run(shape, timeout=own_s)
        call, code = await served.recorder.end()
    assert (outcome.code, code) == ("OK", "OK")
    if own_s and shape in {"unary", "native_unary"}:
        assert call.timer is None  # core sees to the client's own deadline
    else:
        assert call.timer.cancelled()


class Late:
    """A stage that takes until the call's deadline has passed, as a busy loop may."""

    def observer(self, _method: Any) -> Late:
        return self

    def on_start(self, call: Any) -> None:
        while call.servicer_context.time_remaining() > 0:
            pass


@pytest.mark.parametrize("shape", KINDS)
async def test_a_call_whose_time_is_up_is_not_begun(shape: str, serving: Any) -> None:
    async with serving(stages=[Late()], guards=[limits()]) as served:
        outcome = await served.run(shape, silent=True, timeout=CLIENTS_OWN_S)
        call, code = await served.recorder.end()
        assert served.handlers.contexts == []
    assert (outcome.code, code) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert (call.received, call.reason, call.timer) == (0, "DEADLINE_EXCEEDED", None)


@pytest.mark.parametrize("shape", STREAMS_IN)
async def test_a_client_that_falls_silent(shape: str, serving: Any) -> None:
    async with serving(messages=1, guards=[limits(idle_s=SHORT_S)]) as served:
        outcome = await served.outcome(await served.open(shape))
        call, code = await served.recorder.end()
        await asyncio.wait(served.recorder.tasks)
        assert served.handlers.running == 0
    assert_expired(outcome, "STREAM_IDLE")
    assert (call.received, call.reason, code) == (1, "STREAM_IDLE", "DEADLINE_EXCEEDED")
    if shape in WITH_EVENT:
        assert outcome.messages[-1].failed == outcome.failure.status
        assert outcome.messages[-1].sequence_number == call.sent == 2


async def test_a_client_that_never_says_a_word(serving: Any) -> None:
    async with serving(guards=[limits(idle_s=SHORT_S)]) as served:
        calling = served.channel.stream_stream("/kotaemon.v2.AgentService/ChatStream")()
        failure = await served.failure_of(calling)
        call, _ = await served.recorder.end()
    assert failure.reason == "STREAM_IDLE"
    assert (call.received, call.sent) == (0, 1)


@pytest.mark.parametrize("shape", ["client_stream", *STREAMS_OUT])
async def test_a_client_that_waits_for_the_server_is_not_silent(shape: str, serving: Any) -> None:
    short = {"idle_s": SHORT_S / 10, "slow_reader_s": SHORT_S / 10}
    # Long enough for a client on a busy machine to have said all that it says.
    guard = limits(**short, default_s=SHORT_S * 10, max_stream_s=SHORT_S * 10)
    async with serving(forever, guards=[guard]) as served:
        outcome = await served.run(shape)
        await served.recorder.end()
    assert_expired(outcome, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("stream", STREAMS_OUT)
async def test_a_client_that_does_not_read_and_then_does(
    stream: str, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "CLOSING_S", ENDLESS_S)
    guards = [limits(slow_reader_s=SHORT_S)]
    async with serving(messages=MANY, text=LARGE, guards=guards) as served:
        calling = served.call(stream)
        call, code = await served.recorder.end()
        assert (call.reason, code) == ("READER_TOO_SLOW", "DEADLINE_EXCEEDED")
        assert served.handlers.running == 0
        outcome = await served.outcome(calling)
    assert_expired(outcome, "READER_TOO_SLOW")
    # What was on its way arrives whole and in order. The one that nobody took was not
    # counted; a terminal event behind it would have had to wait as well.
    numbers = [message.sequence_number for message in outcome.messages]
    assert numbers == list(range(1, len(numbers) + 1))
    assert call.sent <= len(numbers) <= call.sent + 1 < MANY
    assert {message.WhichOneof("event") for message in outcome.messages} == {"text_delta"}


@pytest.mark.parametrize("stream", STREAMS_OUT)
async def test_a_client_that_never_reads(
    stream: str, serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "CLOSING_S", SHORT_S)
    guards = [limits(slow_reader_s=SHORT_S)]
    async with serving(messages=MANY, text=LARGE, guards=guards) as served:
        calling = served.call(stream)
        call, code = await served.recorder.end()
        await asyncio.wait(served.recorder.tasks)
        assert not calling.done()
    assert (call.reason, code) == ("READER_TOO_SLOW", "DEADLINE_EXCEEDED")
    assert call.timer.cancelled()


@pytest.mark.parametrize("stream", WITH_EVENT)
async def test_a_client_that_goes_while_the_server_waits_for_it(stream: str, serving: Any) -> None:
    async with serving(messages=MANY, text=LARGE, guards=[limits()]) as served:
        calling = served.call(stream)
        await calling.read()
        calling.cancel()
        call, code = await served.recorder.end()
    assert (call.reason, code) == ("", "CANCELLED")
