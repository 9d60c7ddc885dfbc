"""Tokens a second with and without coalescing."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h2
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers import tokens
from preflight import NotAsExpected
from process import Process

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from material import Material

STREAMS = 4
"""Answers that are read at once, over a connection each."""

_MESSAGE_PREFIX = 5
_MS_PER_S = 1000.0


@dataclass(frozen=True, slots=True)
class Flow:
    """How an answer flowed.

    Args:
        tokens_per_s: of all streams together.
        first_ms: the median time to the first token.
        messages: how many messages an answer came in, its terminal event included; the median.
    """

    tokens_per_s: float
    first_ms: float
    messages: float


class Reader(h2.Connection):
    """Reads one answer after the other and never sleeps."""

    def __init__(self, request: h2.Request, until_s: float) -> None:
        """Take the request, and when the last answer is begun."""
        super().__init__()
        self._request = request
        self._until_s = until_s
        self._begun_s = 0.0
        self._parts: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers: list[bytes] = []
        self.first_s: list[float] = []

    def begin(self) -> bytes:
        """Return what asks for the next answer."""
        self._parts = []
        self._begun_s = time.perf_counter()
        return self._request.on(self.new_stream())

    def on_data(self, stream: int, payload: bytes) -> None:  # noqa: ARG002 - as declared
        """Keep a part of the answer."""
        if not self._parts:
            self.first_s.append(time.perf_counter() - self._begun_s)
        self._parts.append(payload)

    def on_end(self, stream: int, trailers: bytes | None) -> bytes:  # noqa: ARG002 - as declared
        """Keep the answer and ask for the next."""
        self.answers.append(b"".join(self._parts))
        if time.perf_counter() < self._until_s:
            return self.begin()
        self.done.set_result(None)
        return b""

    def connection_lost(self, error: Exception | None) -> None:
        """End the wait for what will not come."""
        super().connection_lost(error)
        if not self.done.done():
            self.done.set_exception(ConnectionError("the connection was lost"))


async def compare(
    material: Material, cores: tuple[int, int], *, rounds: int, round_s: float
) -> Sequence[dict[str, Flow]]:
    """Measure both ways in turn.

    Raises:
        NotAsExpected: an answer is not what was written.
    """
    made = []
    tls = material.client_tls("h2")
    arguments = [f"--directory={material.directory}", "--log=/dev/null", "--otlp="]
    with Process("peers.tokens", cores[0], arguments) as server:
        for way in (tokens.COALESCED, tokens.PER_TOKEN):
            await _flow(server.port, tls, way, 0)  # warm
        for number in range(rounds):
            ways = (tokens.COALESCED, tokens.PER_TOKEN)[:: -1 if number % 2 else 1]
            made.append({way: await _flow(server.port, tls, way, round_s) for way in ways})
    return made


async def _flow(port: int, tls: ssl.SSLContext, way: str, round_s: float) -> Flow:
    message = pb.StreamAnswerRequest(question="Why?").SerializeToString()
    request = h2.Request(f"/{tokens.SERVICE}/{way}", (), message)
    until_s = time.perf_counter() + round_s
    readers = [
        await h2.connect(port, tls, lambda: Reader(request, until_s)) for _ in range(STREAMS)
    ]
    started_s = time.perf_counter()
    for reader in readers:
        reader.send(reader.begin())
    try:
        await asyncio.gather(*(reader.done for reader in readers))
        elapsed_s = time.perf_counter() - started_s
    finally:
        for reader in readers:
            reader.close()
    answers = [answer for reader in readers for answer in reader.answers]
    return Flow(
        tokens_per_s=len(answers) * len(tokens.TOKENS) / elapsed_s,
        first_ms=statistics.median(s for reader in readers for s in reader.first_s) * _MS_PER_S,
        messages=statistics.median(_messages(way, answer) for answer in answers),
    )


def _messages(way: str, answer: bytes) -> int:
    """Count the messages of an answer, having seen that it is whole."""
    messages = []
    at = 0
    while at < len(answer):
        start = at + _MESSAGE_PREFIX
        at = start + int.from_bytes(answer[at + 1 : start])
        messages.append(pb.StreamAnswerResponse.FromString(answer[start:at]))
    text = "".join(each.text_delta.text for each in messages)
    if text != "".join(tokens.TOKENS) or not messages[-1].HasField("completed"):
        raise NotAsExpected(f"{way}: the answer is not what was written")
    return len(messages)
