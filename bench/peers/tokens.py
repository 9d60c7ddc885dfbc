"""An answer that is written as fast as it can be, streamed two ways over the same stack."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import grpc

from kotaemon_grpc.core.coalesce import coalesced
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers import host

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from kotaemon_grpc.core.model import AnswerEvent
    from peers.host import Setting

SERVICE = "bench.Tokens"
COALESCED = "Coalesced"
PER_TOKEN = "PerToken"  # noqa: S105 - a method's name
TOKENS = tuple(f" word{number % 100:02}" for number in range(1000))


async def write() -> AsyncGenerator[AnswerEvent, None]:
    """Write the answer, never waiting."""
    for token in TOKENS:
        yield TextDelta(token)
    yield AnswerCompleted(Answer("".join(TOKENS), (), FinishReason.ANSWERED))


def _stream(
    events: Callable[[], AsyncGenerator[AnswerEvent, None]],
) -> Callable[..., AsyncIterator[pb.StreamAnswerResponse]]:
    async def stream(
        _request: pb.StreamAnswerRequest, _context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.StreamAnswerResponse]:
        numbers = count(1)
        async for event in events():
            response = pb.StreamAnswerResponse(sequence_number=next(numbers))
            if isinstance(event, TextDelta):
                response.text_delta.text = event.text
            else:
                response.completed.SetInParent()
            yield response

    return stream


async def serve(setting: Setting) -> None:
    """Serve."""
    ways = {COALESCED: lambda: coalesced(write()), PER_TOKEN: write}
    methods = {
        name: grpc.unary_stream_rpc_method_handler(
            _stream(events),
            request_deserializer=pb.StreamAnswerRequest.FromString,
            response_serializer=pb.StreamAnswerResponse.SerializeToString,
        )
        for name, events in ways.items()
    }
    await host.serve_grpc(setting, (grpc.method_handlers_generic_handler(SERVICE, methods),))


if __name__ == "__main__":
    host.run(serve)
