"""`AgentClient` against a server whose trailers say less than its last event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import AgentClient, NotFoundError, TextDelta
from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs
from kotaemon_grpc.pipeline.errors import classify, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ERROR = NotFound(ResourceType.COLLECTION, "attic")
FAILED = status_of(classify(ERROR), ERROR, "r-1")


class WithoutTrailers(stubs.AgentServiceServicer):
    """Ends well after it said that it failed, as a gateway may make it look."""

    async def StreamAnswer(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the name in the contract
        yield pb.StreamAnswerResponse(text_delta=pb.TextDelta(text="so"))
        yield pb.StreamAnswerResponse(failed=FAILED)

    async def ChatStream(self, _requests: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the name in the contract
        yield pb.ChatStreamResponse(text_delta=pb.TextDelta(text="so"))
        yield pb.ChatStreamResponse(failed=FAILED)


@pytest.fixture
async def client() -> AsyncIterator[AgentClient]:
    server = grpc.aio.server()
    stubs.add_AgentServiceServicer_to_server(WithoutTrailers(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with AgentClient(f"127.0.0.1:{port}", tls=None) as client:
        yield client
    await server.stop(None)


@pytest.mark.parametrize("verb", ["stream", "chat"])
async def test_the_terminal_event_is_enough_to_tell_why_a_stream_failed(
    client: AgentClient, verb: str
) -> None:
    async def one() -> AsyncIterator[str]:
        yield "why?"

    events = client.stream("why?") if verb == "stream" else client.chat(one())
    assert await anext(events) == TextDelta("so")
    with pytest.raises(NotFoundError) as raised:
        await anext(events)
    assert (raised.value.reason, raised.value.request_id) == ("COLLECTION_NOT_FOUND", "r-1")
