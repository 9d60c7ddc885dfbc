"""A stream may wait for hours: what it holds meanwhile."""

from __future__ import annotations

import gc
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import grpc

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pipeline.metadata import METADATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.pipeline.call import Call, Method


class _Starting:
    """A guard that keeps what a timer that is started here would keep, and what it sees."""

    def __init__(self) -> None:
        self.kept: list[Context] = []
        self.seen: list[Any] = []

    def admission(self, _method: Method) -> Callable[[Call], None]:
        def admit(call: Call) -> None:
            self.kept.append(copy_context())
            self.seen.append(call.metadata.get("authorization"))

        return admit


async def test_what_a_stream_starts_keeps_no_credential(serving: Any) -> None:
    guard = _Starting()
    metadata = (("authorization", "Bearer secret"),)
    async with serving(guards=[guard]) as served:
        outcome = await served.run("bidi_stream", metadata=metadata)
    assert outcome.code == "OK"
    assert guard.seen == ["Bearer secret"]
    assert [context.get(METADATA) for context in guard.kept] == [()]


async def test_a_stream_that_waits_keeps_nothing_that_it_has_sent(serving: Any) -> None:
    async with serving(messages=1) as served:
        before = _responses()
        call = served.channel.stream_stream("/kotaemon.v2.AgentService/ChatStream")()
        await call.write(pb.ChatStreamRequest(message=pb.ChatMessage()).SerializeToString())
        assert await call.read()
        await served.handlers.begun.wait()  # it has gone on, to wait for the next message
        assert _responses() <= before
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


def _responses() -> int:
    """Count those that there are, be they of another test's."""
    gc.collect()
    return sum(isinstance(each, pb.ChatStreamResponse) for each in gc.get_objects())
