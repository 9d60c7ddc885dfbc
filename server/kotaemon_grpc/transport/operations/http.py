"""A small HTTP/1.1 server: one request a connection, bounded in connections and in time.

h11 speaks the protocol. A framework would take a quarter of the time in which the
server has to start.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias

import h11

from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.listener import bind_error

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Handler: TypeAlias = Callable[[h11.Request], Awaitable["Reply"]]

_LOGGER = logging.getLogger(__name__)
TEXT = "text/plain; charset=utf-8"
MAX_CONNECTIONS = 64
REQUEST_TIMEOUT_S = 10.0
_MAX_HEAD_BYTES = 16 * 1024
_MAX_IGNORED_BYTES = 1024 * 1024
_LINGER_S = 2.0
_ACCEPT_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered.

    Args:
        status: the status.
        body: all of it; a HEAD is answered without.
        content_type: of the body.
        headers: others than those that every reply has.
    """

    status: HTTPStatus
    body: bytes = b""
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()

    def head(self) -> h11.Response:
        """Make the head."""
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
            *self.headers,
        ]
        return h11.Response(status_code=self.status, reason=self.status.phrase, headers=headers)


class HttpServer:
    """Serves one handler on an address.

    Args:
        address: where it listens; port 0 picks a free one.
        handler: answers a request, of which it gets the head. What it raises is
            logged and becomes a 500.
        flag: the setting that an error tells the operator to change.
        tls: serves TLS with this; None serves plaintext.
        max_connections: those beyond are closed as they come, handshakes counted.
        timeout_s: what a connection may take from its handshake to the end of the reply.

    Attributes:
        tls: as given; may be replaced, for connections that come from then on.
    """

    def __init__(
        self,
        address: Address,
        handler: Handler,
        *,
        flag: str,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._address = address
        self._handler = handler
        self._flag = flag
        self.tls = tls
        self._max_connections = max_connections
        self._timeout_s = timeout_s
        self._listening: list[socket.socket] = []
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._open: dict[asyncio.Task[None], socket.socket] = {}

    async def start(self) -> Address:
        """Listen and serve; return the address with its port.

        Raises:
            OperatorError: the address cannot be had.
        """
        try:
            await self._listen()
        except OSError as error:
            self._close()
            raise bind_error(self._address, self._flag, error) from None
        loop = asyncio.get_running_loop()
        for listening in self._listening:
            loop.add_reader(listening, self._accept, listening)
        return Address(self._address.host, self._listening[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and end what is open."""
        for listening in self._listening:
            asyncio.get_running_loop().remove_reader(listening)
        for resting in self._resting.values():
            resting.cancel()
        self._close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _listen(self) -> None:
        found = await asyncio.get_running_loop().getaddrinfo(
            self._address.host,
            self._address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
        for family, target in dict.fromkeys((family, target) for family, *_, target in found):
            listening = socket.create_server(target, family=family)
            listening.settimeout(0)  # as event loops want it
            self._listening.append(listening)

    def _close(self) -> None:
        for listening in self._listening:
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        """Take a connection ourselves: a server of asyncio tells of one after its handshake."""
        try:
            peer, _ = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the peer has gone
        except OSError as error:  # no file descriptor is free, and the next try would be at once
            _LOGGER.warning("a connection could not be taken: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            self._resting[listening] = loop.call_later(
                _ACCEPT_RETRY_S, loop.add_reader, listening, self._accept, listening
            )
            return
        if len(self._open) >= self._max_connections:
            peer.close()
            return
        peer.settimeout(0)
        task = asyncio.create_task(self._serve(peer))
        self._open[task] = peer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).close()

    async def _serve(self, peer: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, peer, ssl=self.tls
                )
                writer = asyncio.StreamWriter(transport, protocol, reader, loop)
                await self._answer(reader, writer)
                await _end(reader, writer)
        except (OSError, h11.LocalProtocolError):
            pass  # a peer that has gone, or is too slow, is owed nothing
        finally:
            if transport is not None:
                transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            request = await _read_request(connection, reader)
        except h11.RemoteProtocolError as error:
            reply = Reply(HTTPStatus(error.error_status_hint))
        else:
            reply = await self._reply(request)
        # h11 leaves out the body that a HEAD must not have.
        for event in (reply.head(), h11.Data(reply.body), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()

    async def _reply(self, request: h11.Request) -> Reply:
        try:
            return await self._handler(request)
        except Exception:
            _LOGGER.exception("a request over HTTP failed")
            return Reply(HTTPStatus.INTERNAL_SERVER_ERROR)


async def _read_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """Read the head of a request; a body is not waited for.

    Raises:
        ConnectionError: the peer has gone.
        h11.RemoteProtocolError: it does not speak HTTP.
    """
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            raise ConnectionError("the connection ended before a request")
        connection.receive_data(await reader.read(_MAX_HEAD_BYTES))


async def _end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the peer gets the reply (RFC 9112, section 9.6).

    The kernel takes back a reply that is under way when a body is left unread.
    """
    async with asyncio.timeout(_LINGER_S):
        if writer.can_write_eof():  # TLS cannot, and reads on by itself as it closes
            writer.write_eof()
            ignored = 0
            while ignored < _MAX_IGNORED_BYTES and (more := await reader.read(_MAX_HEAD_BYTES)):
                ignored += len(more)
        writer.close()
        await writer.wait_closed()
