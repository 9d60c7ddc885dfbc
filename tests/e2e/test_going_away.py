"""What streams are told when the server is asked to stop, and what becomes of them."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v1 import agent_pb2 as pb1
from kotaemon_grpc.pb.v1 import agent_pb2_grpc as stubs1
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

COMMAND = [sys.executable, str(Path(__file__).with_name("waiting_server.py"))]
GRACE_S = 41


class Gate:
    """Where the engine of `waiting_server.py` waits for a question."""

    def __init__(self) -> None:
        self.question = ""
        self._waiting = asyncio.Queue[asyncio.StreamWriter]()

    async def let_go(self) -> None:
        """Let the engine go on with the question that it has begun, once it has."""
        writer = await self._waiting.get()
        writer.write(b"go\n")
        await writer.drain()
        writer.close()

    async def is_reached(self) -> None:
        """Wait until a question is begun."""
        self._waiting.put_nowait(await self._waiting.get())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Gate]:
        server = await asyncio.start_server(
            lambda _, writer: self._waiting.put_nowait(writer), "127.0.0.1", 0
        )
        self.question = f"wait {server.sockets[0].getsockname()[1]}"
        async with server:
            yield self


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    async with Gate().opened() as opened:
        yield opened


@pytest.fixture
def serving(serving_type: Callable[..., Any], tmp_path: Path, certs: Path) -> Iterator[Any]:
    """A server whose engine waits; it must have ended well by the end of the test."""
    started = serving_type(
        f"--set=server.shutdown_grace_s={GRACE_S}",
        data_dir=tmp_path / "data",
        certs=certs,
        command=COMMAND,
    )
    yield started
    assert started.wait() == 0
    assert started.errors == []


@pytest.fixture
async def channel(serving: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with serving.channel() as channel:
        yield channel


class Chat:
    """A dialogue of version 2, whose first turn is over."""

    def __init__(self, channel: grpc.aio.Channel, gate: Gate) -> None:
        self.call = stubs.AgentServiceStub(channel).ChatStream()
        self.gate = gate

    async def send(self) -> None:
        message = pb.ChatMessage(question=self.gate.question)
        await self.call.write(pb.ChatStreamRequest(message=message))

    async def open(self) -> None:
        await self.send()
        await self.gate.let_go()
        while not (await self.call.read()).HasField("turn_completed"):
            pass

    async def rest(self) -> list[tuple[str, int]]:
        """Read to the end, though this side is not closed; return events with their turns."""
        events = []
        while (event := await self.call.read()) is not grpc.aio.EOF:
            events.append(event)
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + len(events)))
        for event in events:
            if event.HasField("going_away"):
                assert event.going_away.grace.ToTimedelta().total_seconds() == GRACE_S
        assert await self.call.code() is grpc.StatusCode.OK
        return [(event.WhichOneof("event"), event.turn_number) for event in events]


async def test_a_dialogue_that_waits_is_told_at_once_and_ends(
    serving: Any, channel: grpc.aio.Channel, gate: Gate
) -> None:
    chats = [Chat(channel, gate) for _ in range(3)]
    for chat in chats:
        await chat.open()
    serving.process.send_signal(signal.SIGTERM)
    for chat in chats:
        assert await chat.rest() == [("going_away", 0), ("completed", 0)]


async def test_a_turn_that_has_begun_is_finished_and_no_further_one_begins(
    serving: Any, channel: grpc.aio.Channel, gate: Gate
) -> None:
    idle, busy = Chat(channel, gate), Chat(channel, gate)
    await idle.open()
    await busy.open()
    await busy.send()
    await gate.is_reached()
    await busy.send()
    assert (await busy.call.read()).text_delta.text == "so "
    serving.process.send_signal(signal.SIGTERM)
    await idle.rest()  # by then it was said
    await gate.let_go()
    assert await busy.rest() == [
        ("going_away", 0),
        ("text_delta", 2),
        ("turn_completed", 2),
        ("completed", 0),
    ]


async def test_an_answer_that_has_begun_is_told_and_goes_on(
    serving: Any, channel: grpc.aio.Channel, gate: Gate
) -> None:
    idle = Chat(channel, gate)
    await idle.open()
    request = pb.StreamAnswerRequest(question=gate.question)
    call = stubs.AgentServiceStub(channel).StreamAnswer(request)
    events = [await call.read()]
    serving.process.send_signal(signal.SIGTERM)
    await idle.rest()
    await gate.let_go()
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    assert [event.sequence_number for event in events] == [1, 2, 3, 4]
    assert [event.WhichOneof("event") for event in events] == [
        "text_delta",
        "going_away",
        "text_delta",
        "completed",
    ]
    assert events[1].going_away.grace.seconds == GRACE_S
    assert await call.code() is grpc.StatusCode.OK


async def test_a_dialogue_of_version_1_ends_after_the_answer_that_has_begun(
    serving: Any, channel: grpc.aio.Channel, gate: Gate, failure_of: Any
) -> None:
    message = pb1.Message(role="user", content=gate.question)
    idle, busy = (stubs1.AgentServiceStub(channel).ChatStream() for _ in range(2))
    await idle.write(message)
    await gate.let_go()
    assert [(await idle.read()).content for _ in range(2)] == ["so ", "it is"]
    await busy.write(message)
    await gate.is_reached()
    await busy.write(message)
    assert (await busy.read()).content == "so "
    serving.process.send_signal(signal.SIGTERM)
    assert (await failure_of(idle.read())).reason == "SHUTTING_DOWN"
    await gate.let_go()
    assert (await busy.read()).content == "it is"
    assert (await failure_of(busy.read())).reason == "SHUTTING_DOWN"
