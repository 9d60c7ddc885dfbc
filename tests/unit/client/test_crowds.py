"""More calls at once than a server takes on one connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import AgentClient, CallError, DeadlineError
from kotaemon_grpc.client.channels import GrpcTransport
from kotaemon_grpc.client.links import MAX_CALLS
from kotaemon_grpc.client.transport import CallSpec
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

from .servers import BIDI, UNARY, EchoServer, Question, ask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CROWD = 600


class Slow(stubs.AgentServiceServicer):
    """Answers when as many as a client may send at once are there."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.full = asyncio.Event()

    async def AskQuestion(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the name in the contract
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == MAX_CALLS:
            self.full.set()
        await self.full.wait()
        self.running -= 1
        return pb.AskQuestionResponse(answer=pb.Answer(text="so"))


async def test_a_crowd_of_calls_is_answered() -> None:
    slow = Slow()
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100)])
    stubs.add_AgentServiceServicer_to_server(slow, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AgentClient(f"127.0.0.1:{port}", tls=None) as client:
        answers = await asyncio.gather(*(client.ask("why?") for _ in range(CROWD)))
    await server.stop(None)
    assert [answer.text for answer in answers] == ["so"] * CROWD
    assert slow.most == MAX_CALLS


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    server = EchoServer()
    await server.start()
    yield server
    server.released.set()
    await server.server.stop(None)


async def endless() -> AsyncIterator[Question]:
    yield ask("a")
    await asyncio.Event().wait()


async def fill(transport: GrpcTransport, stack: AsyncExitStack, count: int) -> None:
    """Hold dialogues."""
    for _ in range(count):
        dialogue = await stack.enter_async_context(aclosing(transport.bidi(BIDI, endless())))
        assert (await anext(dialogue)).question == "a"


async def test_dialogues_take_places_and_give_them_back(server: EchoServer) -> None:
    transport = GrpcTransport(server.target, tls=None, begin_timeout_s=2.0)
    late = CallSpec(UNARY.method, Question, (), 0.05)
    async with AsyncExitStack() as held:
        await transport.unary(UNARY, ask("connected"))
        await fill(transport, held, MAX_CALLS)
        with pytest.raises(DeadlineError, match="place"):
            await transport.unary(late, ask("b"))
        with pytest.raises(DeadlineError):
            await anext(transport.bidi(BIDI, endless()))
        assert server.calls == MAX_CALLS + 1
    assert (await transport.unary(UNARY, ask("b"))).question == "b"
    await transport.close()


async def test_who_waits_for_a_place_is_told_of_the_end(server: EchoServer) -> None:
    transport = GrpcTransport(server.target, tls=None)
    async with AsyncExitStack() as held:
        await fill(transport, held, MAX_CALLS)
        waiting = asyncio.create_task(transport.unary(UNARY, ask("b")))
        await asyncio.wait((waiting,), timeout=0.05)
        await transport.close()
        with pytest.raises(CallError, match="closed") as raised:
            await waiting
    assert raised.value.code is grpc.StatusCode.CANCELLED
    assert server.calls == MAX_CALLS


async def test_a_full_link_is_passed_over(server: EchoServer) -> None:
    other = EchoServer()
    await other.start()
    transport = GrpcTransport([server.target, other.target], tls=None)
    async with AsyncExitStack() as held:
        await transport.replace_targets([server.target])
        await fill(transport, held, MAX_CALLS)
        await transport.replace_targets([server.target, other.target])
        for _ in range(4):
            await transport.unary(UNARY, ask("b"))
    assert (server.calls, other.calls) == (MAX_CALLS, 4)
    await transport.close()
    await other.server.stop(None)
