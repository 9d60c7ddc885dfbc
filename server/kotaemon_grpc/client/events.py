"""The events of a stream, up to its terminal one."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import grpc

from kotaemon_grpc.client.errors import CallError, error_from_status, failed
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Event: TypeAlias = pb.StreamAnswerResponse | pb.ChatStreamResponse
E = TypeVar("E", bound=Event)


async def until_terminal(responses: AsyncGenerator[E, None]) -> AsyncGenerator[E, None]:
    """Yield the events of a stream, the terminal `completed` among them.

    Raises:
        CallError: the stream broke, ended without a terminal event, or ended in
            `failed`. The call then ends with the same status, but its trailers may be
            lost on the way. `sequence_number` is that of the last event before.
    """
    last = 0
    try:
        async with aclosing(responses):
            async for response in responses:
                event = response.WhichOneof("event")
                if event == "failed":
                    raise error_from_status(response.failed)
                last = response.sequence_number
                yield response
                if event == "completed":
                    # The server counts a call as cancelled that is closed before its end.
                    # Whatever else that end says, everything has been received.
                    with suppress(CallError):
                        async for _ in responses:
                            pass
                    return
        raise failed(grpc.StatusCode.UNKNOWN, "the stream ended without a terminal event")
    except CallError as error:
        error.sequence_number = last
        raise
