"""Sends the requests of one call, for as long as the call lasts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.message import Message


@asynccontextmanager
async def closed(requests: AsyncIterator[Message]) -> AsyncIterator[None]:
    """Close an iterator at the end of the block, if it can be closed."""
    try:
        yield
    finally:
        if aclose := getattr(requests, "aclose", None):
            await aclose()


class Sending:
    """Sends requests while its `async with` block lasts.

    gRPC would go on to read them after the call has ended, until the next one comes.

    Args:
        rpc: a call whose requests are written to it.
        requests: left as they are at the end of the block.

    Raises:
        Exception: at the end of the block, what the iterator of the requests raised;
            the call was cancelled for it.
    """

    def __init__(
        self,
        rpc: grpc.aio.StreamUnaryCall | grpc.aio.StreamStreamCall,
        requests: AsyncIterator[Message],
    ) -> None:
        self._rpc = rpc
        self._requests = requests
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        failure = self._failure  # before the end of the call disturbs the iterator
        self._task.cancel()
        await asyncio.wait((self._task,))
        if failure is not None:
            raise failure from None

    async def _send(self) -> None:
        try:
            async for request in self._requests:
                if not await self._write(request):
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            self._failure = error
            self._rpc.cancel()
        else:
            await self._write(None)

    async def _write(self, request: Message | None) -> bool:
        """Send one, or with None the end; tell whether the call goes on."""
        try:
            await (self._rpc.done_writing() if request is None else self._rpc.write(request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return False  # the call has ended, and its status says why
        return True
