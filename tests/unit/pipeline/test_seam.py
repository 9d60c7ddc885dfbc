"""How calls end, of every shape of handler, on a real server: for clients and for observers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument, NotFound, ResourceType

SECRET = "secret-123"  # noqa: S105 - the word that must not leak
KINDS = ["unary", "client_stream", "server_stream", "bidi_stream"]
WITH_EVENT = ["server_stream", "bidi_stream"]
STREAMS = [
    *WITH_EVENT,
    "plain_server_stream",
    "plain_bidi_stream",
    "native_server_stream",
    "native_bidi_stream",
    "written_server_stream",
    "written_bidi_stream",
]
SHAPES = ["unary", "client_stream", "native_unary", "native_client_stream", *STREAMS]
HOOKS = ["on_start", "on_received", "on_request", "on_sent", "on_end"]


def raising(error: BaseException) -> Any:
    async def deed(_context: Any) -> None:
        raise error

    return deed


async def forever(_context: Any) -> None:
    await asyncio.Event().wait()


def assert_internal(outcome: Any, request_id: str) -> None:
    """The client is told that, and the request's id, and nothing else."""
    assert (outcome.code, outcome.reason) == ("INTERNAL", "INTERNAL")
    assert outcome.failure.error.details() == outcome.failure.status.message == "internal error"
    assert outcome.failure.kinds == ["ErrorInfo", "RequestInfo", "LocalizedMessage"]
    assert outcome.failure.detail("ErrorInfo").metadata == {}
    assert outcome.request_id == request_id != ""
    assert dict(outcome.failure.error.trailing_metadata())["x-request-id"] == request_id
    for word in (SECRET, "Error:", "Traceback"):
        assert word not in outcome.everything


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_returns(shape: str, serving: Any) -> None:
    async with serving(messages=2) as served:
        outcome = await served.run(shape)
        call, code = await served.recorder.end()
    responses = 2 if shape in STREAMS else 1
    assert (outcome.code, len(outcome.messages), code) == ("OK", responses, "OK")
    assert (call.received, call.sent, call.reason) == (1, responses, "")
    sizes = sum(message.ByteSize() for message in outcome.messages)
    assert (call.received_bytes > 0, call.sent_bytes) == (True, sizes)
    start, received, request, *sent, end = served.recorder.told
    assert (start, received, end) == ("start", "received", "end OK")
    assert request.startswith("request ")
    assert sent == ["sent"] * responses
    assert served.recorder.errors == [None]


@pytest.mark.parametrize("messages", [0, 2])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_fails_as_the_domain_knows(
    shape: str, messages: int, serving: Any
) -> None:
    error = NotFound(ResourceType.COLLECTION, "attic")
    async with serving(raising(error), messages=messages) as served:
        outcome = await served.run(shape)
        call, code = await served.recorder.end()
    assert (outcome.code, outcome.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert outcome.failure.status.message == outcome.failure.error.details() == str(error)
    assert outcome.request_id == call.request_id != ""
    numbers = range(1, messages + 1) if shape in STREAMS else range(0)
    if shape in WITH_EVENT:
        numbers = range(1, messages + 2)
        assert outcome.messages[-1].WhichOneof("event") == "failed"
        assert outcome.messages[-1].failed == outcome.failure.status
    assert [message.sequence_number for message in outcome.messages] == list(numbers)
    assert (call.sent, call.reason, code) == (len(numbers), "COLLECTION_NOT_FOUND", "NOT_FOUND")
    assert served.recorder.told[3:] == [*(["sent"] * len(numbers)), "end NOT_FOUND"]
    assert served.recorder.errors == [error]
    assert call.error is None  # its traceback would keep the call, and the call its request


@pytest.mark.parametrize("shape", SHAPES)
async def test_nothing_of_a_fault_reaches_the_client(shape: str, serving: Any) -> None:
    error = ValueError(SECRET)
    async with serving(raising(error), messages=1) as served:
        outcome = await served.run(shape, metadata=(("x-request-id", "r-1"),))
        call, code = await served.recorder.end()
    assert_internal(outcome, "r-1")
    if shape in WITH_EVENT:
        assert outcome.messages[-1].failed == outcome.failure.status
        assert outcome.messages[-1].sequence_number == 2
    assert (call.reason, code, served.recorder.errors) == ("INTERNAL", "INTERNAL", [error])


@pytest.mark.parametrize("shape", SHAPES)
async def test_work_that_was_cancelled_by_nobody_who_may_is_a_fault(
    shape: str, serving: Any
) -> None:
    async with serving(raising(asyncio.CancelledError(SECRET))) as served:
        outcome = await served.run(shape)
        call, _ = await served.recorder.end()
    assert_internal(outcome, call.request_id)
    (error,) = served.recorder.errors
    assert isinstance(error.__cause__, asyncio.CancelledError)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_the_client_cancels(shape: str, serving: Any) -> None:
    async with serving(forever, messages=1) as served:
        calling = served.call(shape)
        await served.handlers.begun.wait()
        calling.cancel()
        call, code = await served.recorder.end()
        await asyncio.wait(served.recorder.tasks)
        assert served.handlers.running == 0
    assert (code, call.reason) == ("CANCELLED", "")
    assert call.sent == (1 if shape in STREAMS else 0)


async def test_a_handler_that_fails_as_the_client_cancels(serving: Any) -> None:
    async def fail_late(_context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError(SECRET)

    async with serving(fail_late) as served:
        calling = served.call("bidi_stream")
        await served.handlers.begun.wait()
        calling.cancel()
        _, code = await served.recorder.end()
    assert code == "INTERNAL"
    assert [type(error) for error in served.recorder.errors] == [ValueError]


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_client_that_goes_while_it_is_sent_to(stream: str, serving: Any) -> None:
    async with serving(messages=1_000_000) as served:
        calling = served.call(stream)
        await calling.read()
        calling.cancel()
        call, code = await served.recorder.end()
    assert code == "CANCELLED"
    assert call.sent < 1_000_000


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_message_that_cannot_be_read(shape: str, serving: Any) -> None:
    async with serving() as served:
        outcome = await served.run(shape, b"\xff")
        call, code = await served.recorder.end()
        assert not served.handlers.begun.is_set()
    assert (outcome.code, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    if not shape.startswith(("native", "written")):
        assert f"not a valid {call.method.request}" in outcome.failure.error.details()
        assert call.method.request.startswith("kotaemon.v2.")
    assert (call.received, call.received_bytes, code) == (1, 1, "INVALID_ARGUMENT")
    assert "received" in served.recorder.told


class Broken:
    """A stage whose one hook fails."""

    def __init__(self, hook: str) -> None:
        self._hook = hook

    def observer(self, _method: Any) -> Broken:
        return self

    def __getattr__(self, name: str) -> Any:
        if name != self._hook:
            raise AttributeError(name)
        return self._fail

    def _fail(self, *_: Any) -> None:
        raise ValueError(SECRET)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("shape", KINDS)
async def test_an_observer_that_fails(shape: str, hook: str, serving: Any) -> None:
    async with serving(messages=1, stages=[Broken(hook)]) as served:
        outcome = await served.run(shape, silent=hook == "on_start")
        call, code = await served.recorder.end()
    if hook == "on_end":
        assert (outcome.code, code) == ("OK", "OK")
    else:
        assert_internal(outcome, call.request_id)
        assert code == "INTERNAL"


@pytest.mark.parametrize("shape", KINDS)
async def test_an_observer_that_fails_at_the_end_of_a_failure(shape: str, serving: Any) -> None:
    error = NotFound(ResourceType.COLLECTION, "attic")
    async with serving(raising(error), stages=[Broken("on_end")]) as served:
        outcome = await served.run(shape)
        await served.recorder.end()
    assert (outcome.code, outcome.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
    assert SECRET not in outcome.everything


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_guard_that_fails(shape: str, serving: Any) -> None:
    class BrokenGuard:
        def admission(self, _method: Any) -> Any:
            return Broken("admit").admit

    async with serving(guards=[BrokenGuard()]) as served:
        outcome = await served.run(shape, silent=True)
        call, code = await served.recorder.end()
        assert served.handlers.contexts == []
    assert_internal(outcome, call.request_id)
    assert (call.received, code) == (0, "INTERNAL")


@pytest.mark.parametrize("stream", WITH_EVENT)
@pytest.mark.parametrize("error", [NotFound(ResourceType.COLLECTION, "attic"), ValueError("so")])
async def test_a_terminal_event_that_cannot_be_made(
    stream: str, error: Exception, serving: Any
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError(SECRET)

    factories = {"StreamAnswer": fail, "ChatStream": fail}
    async with serving(raising(error), messages=1, failure_messages=factories) as served:
        outcome = await served.run(stream)
        call, code = await served.recorder.end()
    assert_internal(outcome, call.request_id)
    assert [message.WhichOneof("event") for message in outcome.messages] == ["text_delta"]
    assert (call.sent, call.reason, code) == (1, "INTERNAL", "INTERNAL")
    assert [str(each) for each in served.recorder.errors] == [SECRET]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_error_that_cannot_be_worded(shape: str, serving: Any) -> None:
    error = InvalidArgument(FieldViolation("f", "is bad"))
    error.violations = SECRET
    async with serving(raising(error)) as served:
        outcome = await served.run(shape)
        call, code = await served.recorder.end()
    assert (outcome.code, outcome.failure.error.details()) == ("INTERNAL", "internal error")
    assert dict(outcome.failure.error.trailing_metadata()) == {"x-request-id": call.request_id}
    assert SECRET not in outcome.everything
    assert (call.reason, code) == ("INTERNAL", "INTERNAL")


@pytest.mark.parametrize("shape", KINDS)
async def test_observers_see_a_call_in_their_order_and_its_end_in_reverse(
    shape: str, serving: Any, recorder: Any
) -> None:
    told: list[str] = []
    async with serving(messages=1, stages=[recorder(told, "a"), recorder(told, "b")]) as served:
        await served.run(shape)
        await served.recorder.end()
    words = [" ".join(event.split()[:2]) for event in told]
    assert words == [
        "a start",
        "b start",
        "a received",
        "b received",
        "a request",
        "b request",
        "a sent",
        "b sent",
        "b end",
        "a end",
    ]
