"""The memory of a chat stream on which nothing happens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h2
import question
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from material import Material

CONNECTIONS = 20
STREAMS_PER_CONNECTION = 100
_METHOD = f"/{question.SERVICE}/ChatStream"
_SETTLE_S = 1.0
_ANSWER_S = 60.0


class Chats(h2.Connection):
    """Opens streams, has one exchange on each, and leaves them open."""

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self._waiting: set[int] = set()
        self._answered = asyncio.Event()

    async def open(self, requests: Sequence[h2.Request]) -> None:
        """Open a stream for each request; return once all were answered.

        Raises:
            ConnectionError: a stream, or the connection, was ended.
        """
        self._answered.clear()
        for request in requests:
            stream = self.new_stream()
            self._waiting.add(stream)
            self.send(request.on(stream, end=False))
        async with asyncio.timeout(_ANSWER_S):
            await self._answered.wait()
        if self.lost:
            raise ConnectionError("an idle stream was ended")

    def on_data(self, stream: int, payload: bytes) -> None:  # noqa: ARG002 - as declared
        """Take note of an answer."""
        self._waiting.discard(stream)
        if not self._waiting:
            self._answered.set()

    def on_end(self, stream: int, trailers: bytes | None) -> bytes:  # noqa: ARG002 - as declared
        """Give up: it was to stay open."""
        self.lost = True
        self._answered.set()
        return b""

    def connection_lost(self, error: Exception | None) -> None:
        """Give up."""
        super().connection_lost(error)
        self._answered.set()


async def stream_kib(
    peer: str, material: Material, cores: tuple[int, int], otlp_port: int
) -> float:
    """Return how much a server's memory grows with each stream, in KiB.

    The connections, and one stream on each, are there before it is looked at first.

    Args:
        peer: a module of `peers` that serves ChatStream.
        material: certificates and tokens.
        cores: for the server and for the load.
        otlp_port: of a receiver of traces on loopback.

    Raises:
        ConnectionError: a stream was ended.
    """
    message = pb.ChatStreamRequest(message=pb.ChatMessage(question="Why?")).SerializeToString()
    requests = [
        # No deadline: such a stream has none.
        h2.Request(_METHOD, [("authorization", f"Bearer {token}")], message)
        for token in material.tokens
    ]
    arguments = [
        f"--directory={material.directory}",
        f"--log={material.directory / f'{peer}-idle.log'}",
        f"--otlp=127.0.0.1:{otlp_port}",
    ]
    tls = material.client_tls("h2")
    with Process(f"peers.{peer}", cores[0], arguments) as server:
        chats = [await h2.connect(server.port, tls, Chats) for _ in range(CONNECTIONS)]
        for each in chats:
            await each.open(requests[:1])
        await asyncio.sleep(_SETTLE_S)
        before_kib = server.resident_kib()
        for each in chats:
            await each.open(requests[1:STREAMS_PER_CONNECTION])
        await asyncio.sleep(_SETTLE_S)
        grown_kib = server.resident_kib() - before_kib
        if any(each.lost for each in chats):
            raise ConnectionError("an idle stream was ended")
        for each in chats:
            each.close()
    return grown_kib / (CONNECTIONS * (STREAMS_PER_CONNECTION - 1))
