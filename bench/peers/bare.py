"""A handler on `grpc.aio` and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

import question
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers import host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from peers.host import Setting

_RESPONSE = pb.AskQuestionResponse(answer=pb.Answer(text=question.ANSWER))

_EVENT = pb.ChatStreamResponse(
    sequence_number=1, turn_number=1, text_delta=pb.TextDelta(text=question.ANSWER)
)


async def ask_question(
    _request: pb.AskQuestionRequest, _context: grpc.aio.ServicerContext
) -> pb.AskQuestionResponse:
    """Answer what is always answered."""
    return _RESPONSE


async def chat_stream(
    requests: AsyncIterator[pb.ChatStreamRequest], _context: grpc.aio.ServicerContext
) -> AsyncIterator[pb.ChatStreamResponse]:
    """Answer each message with what is always answered."""
    async for _ in requests:
        yield _EVENT


def handlers() -> dict[str, grpc.RpcMethodHandler]:
    """Make the handlers by the names of their methods."""
    ask = grpc.unary_unary_rpc_method_handler(
        ask_question,
        request_deserializer=pb.AskQuestionRequest.FromString,
        response_serializer=pb.AskQuestionResponse.SerializeToString,
    )
    chat = grpc.stream_stream_rpc_method_handler(
        chat_stream,
        request_deserializer=pb.ChatStreamRequest.FromString,
        response_serializer=pb.ChatStreamResponse.SerializeToString,
    )
    return {question.METHOD: ask, "ChatStream": chat}


async def serve(setting: Setting) -> None:
    """Serve."""
    handler = grpc.method_handlers_generic_handler(question.SERVICE, handlers())
    await host.serve_grpc(setting, (handler,))


if __name__ == "__main__":
    host.run(serve)
