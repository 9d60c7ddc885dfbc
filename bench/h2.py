"""Just enough HTTP/2 and gRPC framing for a client that costs little beside the server.

Requests are encoded once and sent again and again with a new stream number;
of what comes back only frame headers are read. RFC 9113 is HTTP/2, RFC 7541 is HPACK.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    ConnectionT = TypeVar("ConnectionT", bound="Connection")

AUTHORITY = "localhost"

# Types of frames and their flags, RFC 9113, section 6.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_FRAME_HEADER = 9

# Settings, RFC 9113, section 6.5.2.
HEADER_TABLE_SIZE = 1
_INITIAL_WINDOW_SIZE = 4
_WINDOW = 2**30  # octets: nobody waits for a window in a run
_REFILL = 2**28

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STRING_PREFIX = 127  # RFC 7541, section 5.1: the most that a prefix of 7 bits leaves to say


class Request:
    """A gRPC request, encoded.

    Args:
        path: of the method, as `/kotaemon.v2.AgentService/AskQuestion`.
        metadata: what is sent beside the headers that gRPC asks for.
        message: serialised.
    """

    def __init__(self, path: str, metadata: Iterable[tuple[str, str]], message: bytes) -> None:
        """Encode it."""
        block = _header_block(
            (":method", "POST"),
            (":scheme", "https"),
            (":path", path),
            (":authority", AUTHORITY),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "bench"),
            *metadata,
        )
        self._headers = _length(block) + bytes((_HEADERS, _END_HEADERS))
        self._data = block + data_head(message)
        self._message = _prefixed(message)

    def on(self, stream: int, *, end: bool = True) -> bytes:
        """Return the frames that make the call on a stream; `end` closes our side of it."""
        number = stream.to_bytes(4)
        flags = b"\1" if end else b"\0"
        return b"".join((self._headers, number, self._data, flags, number, self._message))


def data_head(message: bytes) -> bytes:
    """Return the length and the type of the frame that carries a message."""
    return _length(_prefixed(message)) + bytes((_DATA,))


class Connection(asyncio.Protocol):
    """One connection. A subclass says what it asks, and what it makes of the answers."""

    def __init__(self, settings: Iterable[tuple[int, int]] = ()) -> None:
        """Take settings beside the window, as pairs of identifier and value."""
        self._settings = settings
        self._rest = b""
        self._taken = 0
        self._next_stream = 1
        self._transport: asyncio.Transport | None = None
        self.lost = False

    def new_stream(self) -> int:
        """Return the number of a new stream."""
        stream = self._next_stream
        self._next_stream += 2
        return stream

    def send(self, data: bytes) -> None:
        """Send frames."""
        if self._transport is not None and not self.lost:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection, and with it what is under way."""
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    def on_data(self, stream: int, payload: bytes) -> None:
        """Take the payload of a DATA frame that is not empty."""

    def on_headers(self, stream: int, block: bytes) -> None:
        """Take the first headers of an answer that goes on."""

    def on_end(self, stream: int, trailers: bytes | None) -> bytes:
        """Take the end of a stream, None if it was reset; return frames to send."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the server."""
        self._transport = transport  # type: ignore[assignment]
        pairs = ((_INITIAL_WINDOW_SIZE, _WINDOW), *self._settings)
        settings = b"".join(struct.pack(">HI", *pair) for pair in pairs)
        self.send(_PREFACE + _frame(_SETTINGS, 0, settings) + _window_update(_WINDOW))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Take note that nothing will come any more."""
        self.lost = True

    def data_received(self, data: bytes) -> None:
        """Read whole frames, keep the rest."""
        buffer = self._rest + data if self._rest else data
        end = len(buffer)
        at = 0
        out: list[bytes] = []
        while end - at >= _FRAME_HEADER:
            length = int.from_bytes(buffer[at : at + 3])
            following = at + _FRAME_HEADER + length
            if end < following:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            payload = buffer[at + _FRAME_HEADER : following]
            stream = int.from_bytes(buffer[at + 5 : at + 9])
            answer = self._take(kind, flags, stream, payload)
            if answer:
                out.append(answer)
            at = following
        self._rest = buffer[at:]
        if out:
            self.send(b"".join(out))

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _DATA:
            if payload:
                self.on_data(stream, payload)
            answer = self.on_end(stream, b"") if flags & _END_STREAM else b""
            return answer + self._refill(len(payload))
        if kind == _HEADERS:
            # The server is gRPC core: it neither pads nor continues headers as short as these.
            if flags & _END_STREAM:
                return self.on_end(stream, payload)
            self.on_headers(stream, payload)
        elif kind == _RST_STREAM:
            return self.on_end(stream, None)
        elif kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, b"")
        elif kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, payload)
        elif kind == _GOAWAY:
            self.lost = True
        return b""

    def _refill(self, octets: int) -> bytes:
        self._taken += octets
        if self._taken < _REFILL:
            return b""
        taken, self._taken = self._taken, 0
        return _window_update(taken)


async def connect(port: int, tls: ssl.SSLContext, make: Callable[[], ConnectionT]) -> ConnectionT:
    """Open a connection to a server on loopback."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        make, "127.0.0.1", port, ssl=tls, server_hostname=AUTHORITY
    )
    return connection


def _header_block(*headers: tuple[str, str]) -> bytes:
    # Literals without indexing (RFC 7541, section 6.2.2): the same bytes do on any connection.
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    octets = text.encode("ascii")
    length = len(octets)
    if length < _STRING_PREFIX:
        return bytes((length,)) + octets
    length -= _STRING_PREFIX
    out = bytearray((_STRING_PREFIX,))
    while length >= 128:  # noqa: PLR2004 - RFC 7541, section 5.1: seven bits an octet
        out.append(length % 128 + 128)
        length //= 128
    out.append(length)
    return bytes(out) + octets


def _prefixed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message  # gRPC's Length-Prefixed-Message


def _length(payload: bytes) -> bytes:
    return len(payload).to_bytes(3)


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return _length(payload) + bytes((kind, flags)) + bytes(4) + payload


def _window_update(octets: int) -> bytes:
    return _frame(_WINDOW_UPDATE, 0, octets.to_bytes(4))
