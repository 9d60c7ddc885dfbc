"""A closed loop of calls: as soon as one is answered, the next goes out."""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol

import h2

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

CONNECTIONS = 8
IN_FLIGHT = 64

_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Rate:
    """What a server did in a round.

    Args:
        per_s: calls answered with OK a second.
        p50_ms: the median of the time that a call took; with a closed loop it
            follows from the rate.
        p99_ms: what one call of a hundred took longer than.
        calls: how many were answered, the warm-up's too.
        client_busy: the share of its core that the load took; near 1 the load was the limit.
        server_busy: the share of its core that the server had; far below 1 others took it.
    """

    per_s: float
    p50_ms: float
    p99_ms: float
    calls: int
    client_busy: float
    server_busy: float


class CallFailed(Exception):
    """A call was not answered with OK: what was measured would be something else."""


@dataclass(slots=True)
class Tally:
    """What the connections of one round count together."""

    ok: int
    failed: int
    times_s: list[float]


class Loop(Protocol):
    """A connection that keeps calls in flight."""

    def start(self) -> None:
        """Send the first calls."""

    def close(self) -> None:
        """End it."""


class GrpcLoop(h2.Connection):
    """Calls over HTTP/2."""

    def __init__(self, requests: Sequence[h2.Request], first: int, tally: Tally) -> None:
        """Take the requests to rotate through, which comes first, and where to count."""
        super().__init__()
        self._requests = islice(cycle(requests), first, None)
        self._tally = tally
        self._answered: set[int] = set()
        self._sent_s: dict[int, float] = {}

    def start(self) -> None:
        """Send the first calls."""
        self.send(b"".join(self._call() for _ in range(IN_FLIGHT // CONNECTIONS)))

    def on_data(self, stream: int, payload: bytes) -> None:  # noqa: ARG002 - as declared
        """Take note of an answer: a call that fails has none."""
        self._answered.add(stream)

    def on_end(self, stream: int, trailers: bytes | None) -> bytes:  # noqa: ARG002 - as declared
        """Count the call and make the next."""
        sent_s = self._sent_s.pop(stream, None)
        if sent_s is None:
            return b""  # reset after its end
        self._tally.times_s.append(time.perf_counter() - sent_s)
        if stream in self._answered:
            self._answered.discard(stream)
            self._tally.ok += 1
        else:
            self._tally.failed += 1
        return self._call()

    def _call(self) -> bytes:
        stream = self.new_stream()
        self._sent_s[stream] = time.perf_counter()
        return next(self._requests).on(stream)


class HttpLoop(asyncio.Protocol):
    """Calls over HTTP/1.1, one at a time."""

    def __init__(self, requests: Sequence[bytes], first: int, tally: Tally) -> None:
        """Take the requests to rotate through, which comes first, and where to count."""
        self._requests = islice(cycle(requests), first, None)
        self._tally = tally
        self._buffer = b""
        self._sent_s = 0.0
        self._transport: asyncio.Transport | None = None

    def start(self) -> None:
        """Send the first call."""
        self._sent_s = time.perf_counter()
        if self._transport is not None:
            self._transport.write(next(self._requests))

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Take an answer once it is whole."""
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._buffer = b""
        self._tally.times_s.append(time.perf_counter() - self._sent_s)
        if head.startswith(b"HTTP/1.1 200 "):
            self._tally.ok += 1
        else:
            self._tally.failed += 1
        self.start()


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def grpc_loops(
    port: int, tls: ssl.SSLContext, requests: Sequence[h2.Request], tally: Tally
) -> list[Loop]:
    """Connect to a gRPC server."""

    def make(number: int) -> Callable[[], GrpcLoop]:
        return lambda: GrpcLoop(requests, _first(number, CONNECTIONS, requests), tally)

    return [await h2.connect(port, tls, make(number)) for number in range(CONNECTIONS)]


async def http_loops(
    port: int, tls: ssl.SSLContext, requests: Sequence[bytes], tally: Tally
) -> list[Loop]:
    """Connect to a REST server, as often as calls are to be in flight."""
    loop = asyncio.get_running_loop()
    made: list[Loop] = []
    for number in range(IN_FLIGHT):
        protocol = HttpLoop(requests, _first(number, IN_FLIGHT, requests), tally)
        await loop.create_connection(
            lambda protocol=protocol: protocol,  # type: ignore[misc]
            "127.0.0.1",
            port,
            ssl=tls,
            server_hostname=h2.AUTHORITY,
        )
        made.append(protocol)
    return made


def _first(number: int, of: int, requests: Sequence[object]) -> int:
    return number * len(requests) // of  # so that all tokens are in use all the time


async def measure(
    loops: Sequence[Loop],
    tally: Tally,
    warm_up_s: float,
    round_s: float,
    server_busy_s: Callable[[], float],
) -> Rate:
    """Let the loops run, and count after a warm-up; the last tells of the server's time.

    Raises:
        CallFailed: a call was not answered with OK.
    """
    for loop in loops:
        loop.start()
    await asyncio.sleep(warm_up_s)
    ok = tally.ok
    tally.times_s.clear()
    busy_s, of_server_s, started_s = _busy_s(), server_busy_s(), time.perf_counter()
    await asyncio.sleep(round_s)
    elapsed_s = time.perf_counter() - started_s
    per_s = (tally.ok - ok) / elapsed_s
    busy_s, of_server_s = _busy_s() - busy_s, server_busy_s() - of_server_s
    times_ms = sorted(time_s * _MS_PER_S for time_s in tally.times_s)
    for loop in loops:
        loop.close()
    if tally.failed:
        raise CallFailed(f"{tally.failed} of {tally.ok + tally.failed} calls failed")
    if not times_ms:
        raise CallFailed(f"no call was answered in {round_s:g} s, and {tally.ok} before")
    return Rate(
        per_s=per_s,
        p50_ms=times_ms[len(times_ms) // 2],
        p99_ms=times_ms[len(times_ms) * 99 // 100],
        calls=tally.ok,
        client_busy=busy_s / elapsed_s,
        server_busy=of_server_s / elapsed_s,
    )


def _busy_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
