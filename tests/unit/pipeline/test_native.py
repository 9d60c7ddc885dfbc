"""Handlers that speak gRPC themselves: how they end their calls, and what they write."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import grpc
import pytest

SECRET = "secret-123"  # noqa: S105 - the word that must not leak
WITH_ONE_RESPONSE = ["native_unary", "native_client_stream"]
WRITTEN = ["written_server_stream", "written_bidi_stream"]
STREAMS = ["native_server_stream", "native_bidi_stream", *WRITTEN]
SHAPES = [*WITH_ONE_RESPONSE, *STREAMS]
TRAILERS = (("k", "v"),)


class Status(NamedTuple):
    """As `grpc.Status` has it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Any


async def abort(context: Any) -> None:
    await context.abort(grpc.StatusCode.DATA_LOSS, "it is gone", TRAILERS)


async def abort_and_catch(context: Any) -> None:
    with suppress(Exception):  # as a handler may by mistake
        await abort(context)


async def abort_with_status(context: Any) -> None:
    await context.abort_with_status(Status(grpc.StatusCode.DATA_LOSS, "it is gone", TRAILERS))


async def set_code(context: Any) -> None:
    context.set_code(grpc.StatusCode.DATA_LOSS)
    context.set_details("it is gone")
    context.set_trailing_metadata(TRAILERS)
    assert (context.code(), context.details()) == (grpc.StatusCode.DATA_LOSS, "it is gone")


@pytest.mark.parametrize("deed", [abort, abort_and_catch, abort_with_status, set_code])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_handler_that_ends_its_call(shape: str, deed: Any, serving: Any) -> None:
    async with serving(deed, messages=1) as served:
        outcome = await served.run(shape)
        call, code = await served.recorder.end()
    assert (outcome.code, outcome.failure.error.details()) == ("DATA_LOSS", "it is gone")
    assert tuple(outcome.failure.error.trailing_metadata()) == TRAILERS
    responses = 1 if shape in STREAMS else 0
    assert (code, call.reason, call.sent) == ("DATA_LOSS", "", responses)
    assert [message.sequence_number for message in outcome.messages] == [1] * responses
    assert served.recorder.told[3:] == [*(["sent"] * responses), "end DATA_LOSS"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_abort_with_a_code_alone(shape: str, serving: Any) -> None:
    async def deed(context: Any) -> None:
        await context.abort_with_status(Status(grpc.StatusCode.ABORTED, "", None))

    async with serving(deed) as served:
        outcome = await served.run(shape)
        _, code = await served.recorder.end()
    assert (outcome.code, outcome.failure.error.details(), code) == ("ABORTED", "", "ABORTED")


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_handler_that_sets_a_code_and_then_fails(shape: str, serving: Any) -> None:
    async def deed(context: Any) -> None:
        await set_code(context)
        raise ValueError(SECRET)

    async with serving(deed) as served:
        outcome = await served.run(shape)
        await served.recorder.end()
    assert (outcome.code, outcome.failure.error.details()) == ("INTERNAL", "internal error")
    assert SECRET not in outcome.everything


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_handler_that_sets_no_error(shape: str, serving: Any) -> None:
    async def deed(context: Any) -> None:
        context.set_code(grpc.StatusCode.OK)
        context.set_trailing_metadata(TRAILERS)

    async with serving(deed) as served:
        calling = served.call(shape)
        outcome = await served.outcome(calling)
        _, code = await served.recorder.end()
        assert tuple(await calling.trailing_metadata()) == TRAILERS
    assert (outcome.code, code) == ("OK", "OK")


@pytest.mark.parametrize("shape", SHAPES)
async def test_all_else_of_the_context_is_cores_own(shape: str, serving: Any) -> None:
    seen: list[Any] = []

    async def deed(context: Any) -> None:
        seen.append((context.peer(), dict(context.invocation_metadata())["k"]))

    async with serving(deed) as served:
        assert (await served.run(shape, metadata=TRAILERS)).code == "OK"
        await served.recorder.end()
    ((peer, value),) = seen
    assert peer.startswith("ipv4:127.0.0.1:")
    assert value == "v"


@pytest.mark.parametrize("shape", WRITTEN)
async def test_what_is_written_is_counted(shape: str, serving: Any) -> None:
    async with serving(messages=3) as served:
        outcome = await served.run(shape)
        call, _ = await served.recorder.end()
    assert [message.sequence_number for message in outcome.messages] == [1, 2, 3]
    assert call.sent == 3
    assert call.sent_bytes == sum(message.ByteSize() for message in outcome.messages)
    assert served.recorder.told[3:] == ["sent", "sent", "sent", "end OK"]


@pytest.mark.parametrize("shape", WITH_ONE_RESPONSE)
async def test_one_response_cannot_be_written(shape: str, serving: Any) -> None:
    async def deed(context: Any) -> None:
        await context.write(SECRET)

    async with serving(deed) as served:
        outcome = await served.run(shape)
        await served.recorder.end()
    assert outcome.code == "INTERNAL"
    assert [type(error) for error in served.recorder.errors] == [TypeError]


@pytest.mark.parametrize("shape", ["written_bidi_stream", "native_bidi_stream"])
async def test_messages_are_answered_as_they_come(shape: str, serving: Any) -> None:
    async with serving(messages=1) as served:
        calling = await served.open(shape)
        assert (await calling.read()).sequence_number == 1
        await calling.write(b"")
        assert (await calling.read()).sequence_number == 1
        await calling.done_writing()
        outcome = await served.outcome(calling)
        call, code = await served.recorder.end()
    assert (outcome.code, outcome.messages, code) == ("OK", [], "OK")
    assert (call.received, call.sent) == (2, 2)


@pytest.mark.parametrize("shape", ["written_bidi_stream", "native_bidi_stream"])
async def test_a_later_message_that_cannot_be_read(shape: str, serving: Any) -> None:
    async with serving(messages=1) as served:
        calling = await served.open(shape)
        await calling.read()
        await calling.write(b"\xff")
        outcome = await served.outcome(calling)
        call, code = await served.recorder.end()
    assert (outcome.code, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert (call.received, code) == (2, "INVALID_ARGUMENT")
