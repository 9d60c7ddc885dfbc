"""Single calls whose status is looked at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hpack import Decoder

import h2

OK = 0
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
UNAVAILABLE = 14
UNAUTHENTICATED = 16
RESET = -1  # the stream was reset: no status came

_MESSAGE_PREFIX = 5


@dataclass(frozen=True, slots=True)
class Reply:
    """How a call ended.

    Args:
        status: gRPC's number of it, or `RESET`.
        message: the response, empty if there was none.
    """

    status: int
    message: bytes


class Caller(h2.Connection):
    """A connection for calls with one response."""

    def __init__(self) -> None:
        """Ask for trailers that can be read on their own."""
        super().__init__([(h2.HEADER_TABLE_SIZE, 0)])
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._messages: dict[int, bytes] = {}

    def call(self, request: h2.Request) -> asyncio.Future[Reply]:
        """Start a call. Its future fails with `ConnectionError` if the connection is lost."""
        stream = self.new_stream()
        reply = self._replies[stream] = asyncio.get_running_loop().create_future()
        if self.lost:
            self._lose()
        else:
            self.send(request.on(stream))
        return reply

    def on_data(self, stream: int, payload: bytes) -> None:
        """Keep the response."""
        self._messages[stream] = self._messages.get(stream, b"") + payload

    def on_end(self, stream: int, trailers: bytes | None) -> bytes:
        """Hand over the reply."""
        message = self._messages.pop(stream, b"")[_MESSAGE_PREFIX:]
        reply = self._replies.pop(stream, None)
        if reply is not None and not reply.done():
            reply.set_result(Reply(_status(trailers), message))
        return b""

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        super().connection_lost(error)
        self._lose()

    def _lose(self) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionError("the connection was lost"))
        self._replies.clear()


def _status(trailers: bytes | None) -> int:
    if trailers is None:
        return RESET
    return int(dict(Decoder().decode(trailers))["grpc-status"])
