"""Places at something that can do only so much at once, and a short queue for them.

What cannot be done in time is refused at once: a caller that is told so can try
elsewhere, and one that waits in vain takes the time of those that do not.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from kotaemon_grpc.core.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ShedReason: TypeAlias = Literal["queue_full", "would_expire", "timed_out"]
"""Why there was no room: the queue was full; it would have taken longer than the caller
has; it did take longer."""

MIN_RETRY_S = 0.05
MAX_RETRY_S = 10.0

# A change shows after some calls, and a single odd one hardly does; RFC 6298, section 2,
# smooths round trips likewise.
_SMOOTHING = 1 / 8


class Admission:
    """Gives out places, first come, first served. For one event loop.

    Args:
        places: how many there are, above 0.
        max_waiting: how many may wait for one, at least 0.
        max_wait_s: how long each of them may wait, above 0.
        clock: counts seconds; tells how long places are taken.
        on_shed: is told of every refusal; must not block or raise.
        chance: gives a random number from 0 to 1, so that callers that were refused
            together do not come back together.
    """

    def __init__(
        self,
        places: int,
        *,
        max_waiting: int,
        max_wait_s: float,
        clock: Callable[[], float],
        on_shed: Callable[[ShedReason], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Take the limits."""
        self.places = places
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._on_shed = on_shed
        self._chance = chance
        self._in_flight = 0
        # Whoever waits is here; True means that a place was given, False that time ran out.
        # While somebody waits, all places are taken.
        self._queue: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._service_s = 0.0

    @property
    def in_flight(self) -> int:
        """How many places are taken."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._queue)

    def resize(self, places: int, *, max_waiting: int, max_wait_s: float) -> None:
        """Set other limits, for those who come from now on.

        Whoever holds a place keeps it, also beyond the new limit, and whoever waits
        goes on waiting, or is given a place that is new.
        """
        self.places = places
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._give_out()

    @asynccontextmanager
    async def admit(self, remaining_s: float = math.inf) -> AsyncIterator[None]:
        """Hold a place for as long as the context lasts; wait for one if need be.

        Args:
            remaining_s: how long the caller has, at least 0.

        Raises:
            Overloaded: there is none in time, or is not expected to be.
        """
        if self._in_flight < self.places:
            self._in_flight += 1
        else:
            await self._wait(min(remaining_s, self._max_wait_s))
        since_s = self._clock()
        try:
            yield
        finally:
            self._smooth(self._clock() - since_s)
            self._pass_on()

    async def _wait(self, patience_s: float) -> None:
        if len(self._queue) >= self._max_waiting:
            raise self._refusal("queue_full")
        if self._expected_wait_s() > patience_s:
            raise self._refusal("would_expire")
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        self._queue[place] = None
        timer = loop.call_later(patience_s, self._leave, place)
        try:
            is_given = await place
        except BaseException:
            # It may be given in the same turn of the loop in which the wait is cancelled.
            if place.done() and not place.cancelled() and place.result():
                self._pass_on()
            raise
        finally:
            timer.cancel()
            self._queue.pop(place, None)
        if not is_given:
            raise self._refusal("timed_out")

    def _leave(self, place: asyncio.Future[bool]) -> None:
        """Let one go whose time has run out."""
        if not place.done():
            del self._queue[place]
            place.set_result(False)

    def _pass_on(self) -> None:
        """Leave a place, to the first who waits if anybody does."""
        self._in_flight -= 1
        self._give_out()

    def _give_out(self) -> None:
        """Give the places that are free to those who wait."""
        while self._queue and self._in_flight < self.places:
            place, _ = self._queue.popitem(last=False)
            if not place.done():
                place.set_result(True)
                self._in_flight += 1

    def _expected_wait_s(self) -> float:
        """How long one who came now would wait: a place is left every so often."""
        return (len(self._queue) + 1) * self._service_s / self.places

    def _smooth(self, service_s: float) -> None:
        if not self._service_s:
            self._service_s = service_s
        self._service_s += _SMOOTHING * (service_s - self._service_s)

    def _refusal(self, reason: ShedReason) -> Overloaded:
        self._on_shed(reason)
        # Up to twice as long as it is expected to take, never shorter.
        expected_s = min(max(self._expected_wait_s(), MIN_RETRY_S), MAX_RETRY_S / 2)
        return Overloaded(expected_s * (1 + self._chance()))
