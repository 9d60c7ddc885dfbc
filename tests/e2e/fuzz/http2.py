"""HTTP/2 by hand (RFC 9113), for what no gRPC client sends or shows."""

from __future__ import annotations

import base64
import enum
import socket
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # section 3.4
ACK = END_OF_STREAM = 0x1
END_OF_HEADERS = 0x4
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 0x1, 0x4  # section 6.5.2
ALLOW_TRUE_BINARY_METADATA = 0xFE03  # of gRPC: -bin fields come as bytes, not in Huffman's code
DEFAULT_WINDOW_BYTES = 65_535
MOST_WINDOW_BYTES = 2**31 - 1
MAX_FRAME_BYTES = 16_384
CANCEL, ENHANCE_YOUR_CALM = 8, 11  # section 7
PATIENCE_S = 20  # only what fails takes as long

CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Kind(enum.IntEnum):
    """Of frames (section 6)."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    WINDOW_UPDATE = 8
    CONTINUATION = 9


@dataclass
class Answer:
    """All that came on a stream."""

    fields: dict[str, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    is_ended: bool = False
    reset_with: int | None = None

    @property
    def code(self) -> str:
        """The name of the status code; empty if there was none."""
        number = self.fields.get("grpc-status")
        return "" if number is None else CODES[int(number)]

    @property
    def messages(self) -> list[bytes]:
        found, at = [], 0
        while at < len(self.data):
            end = at + 5 + int.from_bytes(self.data[at + 1 : at + 5], "big")
            found.append(bytes(self.data[at + 5 : end]))
            at = end
        return found

    @property
    def status(self) -> status_pb2.Status:
        return status_pb2.Status.FromString(self.fields.get("grpc-status-details-bin", b""))

    @property
    def reason(self) -> str:
        """The reason of the `ErrorInfo`; empty if there is none."""
        info = self.detail("ErrorInfo")
        return info.reason if info else ""

    def detail(self, kind: str) -> Any:
        """Return the detail of a kind, as `ErrorInfo`; None if there is none."""
        for packed in self.status.details:
            if packed.TypeName() == f"google.rpc.{kind}":
                message = getattr(error_details_pb2, kind)()
                packed.Unpack(message)
                return message
        return None


class Http2:
    """A connection. Streams are opened on it one after the other or together.

    Args:
        address: of the server, as `host:port`.
        tls: how to speak TLS.
        window_bytes: how much of each answer the server may send.
    """

    def __init__(
        self, address: str, tls: ssl.SSLContext, *, window_bytes: int = MOST_WINDOW_BYTES
    ) -> None:
        host, _, port = address.rpartition(":")
        plain = socket.create_connection((host, int(port)), PATIENCE_S)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._raw = tls.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise
        self._answers: dict[int, Answer] = {}
        self._next_stream = 1
        self._initial_window = DEFAULT_WINDOW_BYTES
        self._window_changes: defaultdict[int, int] = defaultdict(int)
        wanted = {
            HEADER_TABLE_SIZE: 0,
            INITIAL_WINDOW_SIZE: window_bytes,
            ALLOW_TRUE_BINARY_METADATA: 1,
        }
        payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in wanted.items())
        more = (MOST_WINDOW_BYTES - DEFAULT_WINDOW_BYTES).to_bytes(4, "big")
        self._raw.sendall(PREFACE)
        self._write(Kind.SETTINGS, 0, 0, payload)
        self._write(Kind.WINDOW_UPDATE, 0, 0, more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._raw.close()

    def begin(
        self, path: str, fields: Iterable[tuple[bytes, bytes]] = (), *, end: bool = False
    ) -> int:
        """Open a stream with the head of a call, and return its number."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._answers[stream] = Answer()
        block = _request(path.encode(), fields)
        for at in range(0, len(block), MAX_FRAME_BYTES):
            flags = END_OF_STREAM if end and not at else 0
            flags |= END_OF_HEADERS if at + MAX_FRAME_BYTES >= len(block) else 0
            kind = Kind.CONTINUATION if at else Kind.HEADERS
            self._write(kind, flags, stream, block[at : at + MAX_FRAME_BYTES])
        return stream

    def send(self, stream: int, *messages: bytes) -> None:
        """Send messages and the end of them, as far as the server takes them."""
        rest = b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages)
        while rest:
            room = min(
                self._initial_window + self._window_changes[stream],
                DEFAULT_WINDOW_BYTES + self._window_changes[0],
            )
            part, rest = rest[: min(room, MAX_FRAME_BYTES)], rest[min(room, MAX_FRAME_BYTES) :]
            if part:
                self._write(Kind.DATA, 0 if rest else END_OF_STREAM, stream, part)
                self._window_changes[0] -= len(part)
                self._window_changes[stream] -= len(part)
            elif self._answers[stream].is_ended:
                return
            else:
                self._take_frame()

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._write(Kind.RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))

    def answer(self, stream: int) -> Answer:
        """Wait for the end of an answer."""
        while not self._answers[stream].is_ended:
            self._take_frame()
        return self._answers.pop(stream)

    def call(
        self, path: str, *messages: bytes, fields: Iterable[tuple[bytes, bytes]] = ()
    ) -> Answer:
        """Make a call to its end; without a message it is half-closed at once."""
        stream = self.begin(path, fields, end=not messages)
        self.send(stream, *messages)
        return self.answer(stream)

    def _write(self, kind: Kind, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self._raw.sendall(head + payload)

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            more = self._raw.recv(size - len(received))
            if not more:
                raise ConnectionResetError("the server closed the connection")
            received += more
        return received

    def _read_frame(self) -> tuple[int, int, int, bytes]:
        head = self._exactly(9)
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def _read_block(self) -> tuple[int, int, int, bytes]:
        """Read a frame, with those that continue it."""
        kind, flags, stream, payload = self._read_frame()
        while kind == Kind.HEADERS and not flags & END_OF_HEADERS:
            _, more, _, part = self._read_frame()
            flags, payload = flags | more, payload + part
        return kind, flags, stream, payload

    def _take_frame(self) -> None:
        kind, flags, stream, payload = self._read_block()
        answer = self._answers.get(stream, Answer())  # of one that was reset, nobody asks
        match kind:
            case Kind.DATA:
                answer.data += payload
            case Kind.HEADERS:
                answer.fields |= _decoded(payload)
            case Kind.RST_STREAM:
                answer.reset_with = int.from_bytes(payload, "big")
            case Kind.SETTINGS if not flags & ACK:
                self._take_settings(payload)
            case Kind.PING if not flags & ACK:
                self._write(Kind.PING, ACK, 0, payload)
            case Kind.WINDOW_UPDATE:
                self._window_changes[stream] += int.from_bytes(payload, "big")
        ends = kind in {Kind.DATA, Kind.HEADERS} and flags & END_OF_STREAM
        if ends or kind == Kind.RST_STREAM:
            answer.is_ended = True

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if int.from_bytes(payload[at : at + 2], "big") == INITIAL_WINDOW_SIZE:
                self._initial_window = int.from_bytes(payload[at + 2 : at + 6], "big")
        self._write(Kind.SETTINGS, ACK, 0, b"")


def _request(path: bytes, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    own = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    # Literal fields without indexing (RFC 7541, section 6.2.2).
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in (*own, *fields))


def _string(text: bytes) -> bytes:
    """Encode a string literal (RFC 7541, section 5.2)."""
    size, most = len(text), 0x7F
    if size < most:
        return bytes([size]) + text
    head, size = bytes([most]), size - most
    while size > most:
        head += bytes([size & most | 0x80])
        size >>= 7
    return head + bytes([size]) + text


def _decoded(block: bytes) -> dict[str, bytes]:
    """Decode a block of header fields (RFC 7541, section 6) that uses no dynamic table."""
    fields: dict[str, bytes] = {}
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # of the static table; nobody asks for these
            _, at = _integer(block, at, 7)
        elif first & 0x60 == 0x20:  # the size of the table, which is 0
            _, at = _integer(block, at, 5)
        else:
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            name, at = (f"static {index}".encode(), at) if index else _text(block, at)
            value, at = _text(block, at)
            fields[name.decode()] = _plain(value) if name.endswith(b"-bin") else value
    return fields


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Decode an integer (RFC 7541, section 5.1); return it and what comes after it."""
    most = (1 << bits) - 1
    value, at, shift = block[at] & most, at + 1, 0
    while value >= most:
        value += (block[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not block[at - 1] & 0x80:
            break
    return value, at


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    assert not block[at] & 0x80, "Huffman's code is not expected"
    size, at = _integer(block, at, 7)
    return block[at : at + size], at + size


def _plain(value: bytes) -> bytes:
    return value[1:] if value[:1] == b"\0" else base64.b64decode(value + b"==")
