"""The four kinds of calls of `GrpcTransport`, and how they end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc
import pytest

from kotaemon_grpc.client import (
    AgentClient,
    CallError,
    DeadlineError,
    NotFoundError,
    UnavailableError,
)
from kotaemon_grpc.client.channels import GrpcTransport
from kotaemon_grpc.client.transport import CallSpec

from .servers import BIDI, CLIENT_STREAM, SERVER_STREAM, UNARY, EchoServer, Question, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    server = EchoServer()
    await server.start()
    yield server
    await server.server.stop(None)


@pytest.fixture
async def transport(server: EchoServer) -> AsyncIterator[GrpcTransport]:
    transport = GrpcTransport(server.target, tls=None)
    yield transport
    await transport.close()


class Words:
    """Requests that can be watched: after the words they wait, and then fail."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.may_fail = asyncio.Event()
        self.is_closed = False

    async def sent(self) -> AsyncIterator[Question]:
        try:
            for word in self.words:
                yield ask(word)
            await self.may_fail.wait()
            raise OSError(5, "broken")
        finally:
            self.is_closed = True


async def each(*words: str) -> AsyncIterator[Question]:
    for word in words:
        yield ask(word)


async def run(transport: GrpcTransport, kind: str, word: str) -> list[str]:
    """Make a call of a kind with one word, and return what comes."""
    match kind:
        case "unary":
            return [(await transport.unary(UNARY, ask(word))).question]
        case "client_stream":
            return [(await transport.client_stream(CLIENT_STREAM, each(word))).question]
        case "server_stream":
            return [r.question async for r in transport.server_stream(SERVER_STREAM, ask(word))]
    return [r.question async for r in transport.bidi(BIDI, each(word))]


KINDS = ["unary", "client_stream", "server_stream", "bidi"]


async def test_messages_go_to_and_fro(transport: GrpcTransport) -> None:
    assert (await transport.unary(UNARY, ask("a"))).question == "a"
    assert (await transport.client_stream(CLIENT_STREAM, each("a", "b"))).question == "a b"
    stream = transport.server_stream(SERVER_STREAM, ask("a b"))
    assert [response.question async for response in stream] == ["a", "b"]
    dialogue = transport.bidi(BIDI, each("a", "b"))
    assert [response.question async for response in dialogue] == ["a", "b"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_server_says_is_raised(transport: GrpcTransport, kind: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        await run(transport, kind, "fail")
    assert raised.value.message == "as was asked"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_that_the_server_cancels_does_not_look_like_the_callers_cancelling(
    transport: GrpcTransport, kind: str
) -> None:
    with pytest.raises(CallError) as raised:
        await run(transport, kind, "cancel")
    assert (raised.value.code, raised.value.message) == (grpc.StatusCode.CANCELLED, "as was asked")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_task_cancels_its_call(
    transport: GrpcTransport, server: EchoServer, kind: str
) -> None:
    task = asyncio.create_task(run(transport, kind, "wait"))
    await server.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.was_cancelled.wait()


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_gives_up_the_calls_in_flight(
    transport: GrpcTransport, server: EchoServer, kind: str
) -> None:
    task = asyncio.create_task(run(transport, kind, "wait"))
    await server.began.wait()
    await transport.close()
    with pytest.raises(CallError) as raised:
        await task
    assert raised.value.code is grpc.StatusCode.CANCELLED
    with pytest.raises(CallError, match="the client is closed"):
        await run(transport, kind, "a")


@pytest.mark.parametrize("kind", ["server_stream", "bidi"])
async def test_closing_a_stream_cancels_the_call(
    transport: GrpcTransport, server: EchoServer, kind: str
) -> None:
    words = Words("a", "wait")
    stream = (
        transport.bidi(BIDI, words.sent())
        if kind == "bidi"
        else transport.server_stream(SERVER_STREAM, ask("a wait"))
    )
    async with aclosing(stream):
        assert (await anext(stream)).question == "a"
    await server.ended.wait()
    assert words.is_closed is (kind == "bidi")


@pytest.mark.parametrize("kind", ["client_stream", "bidi"])
async def test_requests_are_read_no_longer_than_the_call_lasts(
    transport: GrpcTransport, kind: str
) -> None:
    words = Words("a", "enough")
    if kind == "bidi":
        dialogue = transport.bidi(BIDI, words.sent())
        assert [response.question async for response in dialogue] == ["a"]
    else:
        assert (await transport.client_stream(CLIENT_STREAM, words.sent())).question == "a"
    assert words.is_closed


@pytest.mark.parametrize("kind", ["client_stream", "bidi"])
async def test_what_the_requests_raise_ends_the_call_and_is_raised(
    transport: GrpcTransport, server: EchoServer, kind: str
) -> None:
    words = Words("a")
    words.may_fail = server.began

    async def call() -> None:
        if kind == "client_stream":
            await transport.client_stream(CLIENT_STREAM, words.sent())
        async for _ in transport.bidi(BIDI, words.sent()):
            pass

    with pytest.raises(OSError, match="broken"):
        await call()
    await server.ended.wait()


async def test_the_deadline_is_told_also_while_no_server_answers(
    transport: GrpcTransport,
) -> None:
    late = CallSpec(UNARY.method, Question, (), 0.05)
    with pytest.raises(DeadlineError):
        await transport.unary(late, ask("wait"))


async def test_the_deadline_holds_while_nothing_is_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = GrpcTransport(f"127.0.0.1:{silent.getsockname()[1]}", tls=None)
        with pytest.raises(DeadlineError):
            await transport.unary(CallSpec(UNARY.method, Question, (), 0.2), ask("a"))
        await transport.close()


async def test_a_dialogue_that_does_not_begin_ends_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        async with AgentClient(target, tls=None, timeout_s=0.2) as client:
            with pytest.raises(DeadlineError):
                await anext(client.chat(["why?"]))


async def test_a_dialogue_that_has_begun_may_take_longer(server: EchoServer) -> None:
    transport = GrpcTransport(server.target, tls=None, begin_timeout_s=5.0)
    loop = asyncio.get_running_loop()
    async with aclosing(transport.bidi(BIDI, each("wait", "a"))) as words:
        first = asyncio.create_task(anext(words))
        await server.began.wait()
        now_s = loop.time
        loop.time = lambda: now_s() + 60.0  # type: ignore[method-assign] # a minute passes
        try:
            server.released.set()
            assert (await first).question == "wait"
        finally:
            loop.time = now_s  # type: ignore[method-assign] # as it was
        assert (await anext(words)).question == "a"
    await transport.close()


async def test_no_server_is_told() -> None:
    transport = GrpcTransport("127.0.0.1:1", tls=None)
    with pytest.raises(UnavailableError):
        await transport.unary(UNARY, ask("a"))
    await transport.close()


async def test_metadata_is_sent(transport: GrpcTransport, server: EchoServer) -> None:
    await transport.unary(
        CallSpec(UNARY.method, Question, (("x-request-id", "r-1"),), 30.0), ask("a")
    )
    assert server.metadata["x-request-id"] == "r-1"
