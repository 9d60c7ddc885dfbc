"""A steady load through the client: what was sent, what failed and how long it took."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kotaemon_grpc.client import Answer, TextDelta

if TYPE_CHECKING:
    import itertools
    from collections.abc import Awaitable

    from kotaemon_grpc.client import AgentClient

MOST_IN_FLIGHT = 40
"""More are not begun: a caller has so many threads, and waits when all are taken."""

_MOST_BREAKS = 5  # of one stream, when servers die one after the other
_TICK_S = 0.01
_MS = 1000


@dataclass
class Counts:
    """What the callers saw, of one load or of several.

    Attributes:
        asked: unary calls that were made.
        streamed: streams that were opened.
        answered: the numbers of all questions that were answered rightly.
        failures: what was said, with how often.
        broken: streams that broke after a first piece, and were asked for again.
        took_s: of each unary call that succeeded.
    """

    asked: int = 0
    streamed: int = 0
    answered: set[int] = field(default_factory=set)
    failures: Counter[str] = field(default_factory=Counter)
    broken: int = 0
    took_s: list[float] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return self.asked + self.streamed

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.took_s)
        return ordered[len(ordered) * 99 // 100] * _MS if ordered else 0.0


class Load:
    """Calls at a rate, whatever becomes of those before, until it was enough.

    Args:
        client: makes the calls.
        counts: where they are counted.
        numbers: gives each question a number that no other has.
        calls: the unary calls to make at the least.
        streams: the streams to open at the least, evenly among the calls.
        rate: unary calls a second.
    """

    def __init__(
        self,
        client: AgentClient,
        counts: Counts,
        numbers: itertools.count[int],
        *,
        calls: int,
        streams: int,
        rate: float,
    ) -> None:
        self.client = client
        self._counts = counts
        self._numbers = numbers
        self._calls = calls
        self._calls_a_stream = max(1, calls // streams)
        self._rate = rate
        self.made = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._may_end = asyncio.Event()
        self._was_enough = asyncio.Event()

    async def run(self) -> None:
        """Make calls until `end` was called and there were enough of them."""
        due = 0.0
        last_s = time.monotonic()
        while not (self._was_enough.is_set() and self._may_end.is_set()):
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            # What could not be sent in time is not made up for: the load is steady.
            due = min(due + (now_s - last_s) * self._rate, self._rate / 10)
            last_s = now_s
            while due >= 1 and len(self._in_flight) < MOST_IN_FLIGHT:
                due -= 1
                self._begin()
            if self.made >= self._calls:
                self._was_enough.set()
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def enough(self) -> None:
        """Wait until as many calls were made as are wanted at the least."""
        await self._was_enough.wait()

    def end(self) -> None:
        """Say that nothing else has to be waited for."""
        self._may_end.set()

    def _begin(self) -> None:
        self.made += 1
        self._counts.asked += 1
        self._spawn(self._ask(next(self._numbers)))
        if self.made % self._calls_a_stream == 0:
            self._counts.streamed += 1
            self._spawn(self._stream(next(self._numbers)))

    def _spawn(self, call: Awaitable[None]) -> None:
        task = asyncio.ensure_future(call)
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _ask(self, number: int) -> None:
        began_s = time.perf_counter()
        try:
            answer = await self.client.ask(f"ask {number}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            self._failed(error)
            return
        self._counts.took_s.append(time.perf_counter() - began_s)
        self._settle(number, answer.text == f"answer to ask {number}")

    async def _stream(self, number: int) -> None:
        request_id = uuid.uuid4().hex
        for is_last in (False,) * _MOST_BREAKS + (True,):
            try:
                self._settle(number, await self._read(number, request_id))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
                if getattr(error, "sequence_number", 0) and not is_last:
                    # The client says so and starts nothing again: its caller does, by the same id.
                    self._counts.broken += 1
                    continue
                self._failed(error)
            return

    async def _read(self, number: int, request_id: str) -> bool:
        """Read a stream to its end; tell whether its pieces are the answer, and are all of it."""
        text, whole = "", None
        async for event in self.client.stream(f"stream {number}", request_id=request_id):
            match event:
                case TextDelta():
                    text += event.text
                case Answer():
                    whole = event.text
        return bool(text) and text == whole and f"{number}.19 " in text

    def _settle(self, number: int, is_right: bool) -> None:  # noqa: FBT001 - a verdict
        if is_right:
            self._counts.answered.add(number)
        else:
            self._counts.failures["an answer to another question, or in part"] += 1

    def _failed(self, error: Exception) -> None:
        self._counts.failures[f"{type(error).__name__}: {error}"[:200]] += 1
