"""The deadlines of `FakeTransport`: the handlers here would never end by themselves."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import AgentClient, DeadlineError, SyncAgentClient, TextDelta
from kotaemon_grpc.client.testing import FakeTransport
from kotaemon_grpc.client.transport import CallSpec
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DELTA = pb.StreamAnswerResponse(sequence_number=1, text_delta=pb.TextDelta(text="so"))


class Endless:
    """Handlers that wait for ever, and note that they were cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    @asynccontextmanager
    async def noting(self, name: str) -> AsyncIterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise

    async def ask(self, _: object) -> Any:
        async with self.noting("ask"):
            await asyncio.Event().wait()

    async def take(self, requests: AsyncIterator[Any]) -> Any:
        async with self.noting("take"):
            async for _ in requests:
                await asyncio.Event().wait()

    async def stream(self, _: object) -> AsyncIterator[Any]:
        async with self.noting("stream"):
            yield DELTA
            await asyncio.Event().wait()


async def test_a_call_that_takes_longer_than_its_deadline_is_cancelled() -> None:
    endless = Endless()
    fake = FakeTransport({"AskQuestion": endless.ask, "ImportDocument": endless.take})
    async with AgentClient(tls=None, transport=fake, timeout_s=0.05) as client:
        with pytest.raises(DeadlineError, match="the deadline passed"):
            await client.ask("why?")
        with pytest.raises(DeadlineError, match="the deadline passed"):
            await client.import_document(io.BytesIO(b""), uri="urn:x")
    assert endless.cancelled == ["ask", "take"]
    assert len(fake.calls) == 2


async def test_a_stream_ends_at_its_deadline_after_what_came_before() -> None:
    endless = Endless()
    fake = FakeTransport({"StreamAnswer": endless.stream})
    async with AgentClient(tls=None, transport=fake, timeout_s=0.5) as client:
        events = client.stream("why?")
        assert await anext(events) == TextDelta("so")
        with pytest.raises(DeadlineError) as raised:
            await anext(events)
    assert raised.value.sequence_number == 1
    assert endless.cancelled == ["stream"]


def test_a_stream_for_threads_ends_at_its_deadline_too() -> None:
    fake = FakeTransport({"StreamAnswer": Endless().stream})
    with SyncAgentClient(tls=None, transport=fake, timeout_s=0.5) as client:
        events = client.stream("why?")
        assert next(events) == TextDelta("so")
        with pytest.raises(DeadlineError):
            next(events)


async def test_a_call_whose_time_is_over_fails_although_its_handler_never_waits() -> None:
    fake = FakeTransport({"AskQuestion": lambda _: pb.AskQuestionResponse()})
    async with AgentClient(tls=None, transport=fake, timeout_s=1e-9) as client:
        with pytest.raises(DeadlineError):
            await client.ask("why?")


async def test_a_handlers_own_timeout_is_not_that_of_the_call() -> None:
    async def answer(_: object) -> Any:
        raise TimeoutError("of its own")

    async with AgentClient(tls=None, transport=FakeTransport({"AskQuestion": answer})) as client:
        with pytest.raises(TimeoutError, match="of its own"):
            await client.ask("why?")


def test_what_is_shown_of_a_call_has_no_credentials() -> None:
    call = CallSpec("/x/Y", pb.AskQuestionResponse, (("authorization", "Bearer s3cret"),), 1.0)
    assert "s3cret" not in repr(call)
    assert "/x/Y" in repr(call)
