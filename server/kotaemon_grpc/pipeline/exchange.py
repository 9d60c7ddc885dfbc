"""What is sent to a client by way of core, and how it is found to have gone."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from kotaemon_grpc.pipeline.call import Call
    from kotaemon_grpc.pipeline.ending import Ending


async def require_whole(call: Call) -> None:
    """Go on if a client's stream ended because the client ended it.

    Core reads nothing more in either case, also when it has refused a message that is
    too large: half of a document must not be taken for the whole. What is sent first
    goes out early, and fails for a call that core has given up.
    """
    try:
        await call.servicer_context.send_initial_metadata(())
    except grpc.aio.UsageError:  # the handler has sent it
        return
    except grpc.aio.BaseError:
        call.is_left = True
        raise asyncio.CancelledError from None


async def send(call: Call, message: bytes) -> None:
    """Send a message; the watch over a stream sees how long its client takes.

    Raises:
        CancelledError: the client has gone.
    """
    call.writing_since_s = time.monotonic()
    try:
        await call.servicer_context.write(message)
    except grpc.aio.BaseError:
        call.is_left = True
        raise asyncio.CancelledError from None
    call.writing_since_s = 0.0


async def send_last(call: Call, event: bytes) -> None:
    """Send the terminal event, if the client takes it in time."""
    try:
        await send(call, event)
    except asyncio.CancelledError:
        if call.interruption() is None:  # not our own: the client has gone
            raise


async def abort(call: Call, ending: Ending) -> None:
    """Raise what ends the call. Of the cause, core would show the caller the text.

    Core takes the status at once and sends it behind what the client has not taken
    yet; the watch over a stream ends the wait for that.
    """
    call.writing_since_s = time.monotonic()
    try:
        await call.servicer_context.abort(ending.code, ending.message, ending.trailers)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:  # the client has gone meanwhile
        raise asyncio.CancelledError from None
