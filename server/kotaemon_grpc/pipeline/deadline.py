"""How long a call may last, and how long a stream may stand still: the guard."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import DeadlineExceeded, ReaderTooSlow, StreamIdle

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.pipeline.call import Call, Method

CLOSING_S = 5.0
"""How long a client may take over the end of a stream that was stopped."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Times in seconds, all above 0.

    Args:
        default_s: of a call whose client set no deadline; `max_s` if that is less.
        max_s: of any other; a deadline that lies further away is brought forward.
        max_stream_s: instead of both, of a call in which the client streams.
        idle_s: how long a handler waits for the next message of a client.
        slow_reader_s: how long it waits for a client to take one.
    """

    default_s: float
    max_s: float
    max_stream_s: float
    idle_s: float
    slow_reader_s: float


class Deadlines:
    """The guard. What it starts, the end of the call has to stop: `Call.timer`."""

    def __init__(self, limits: TimeLimits) -> None:
        """Take the limits."""
        self._limits = limits

    def admission(self, method: Method) -> Callable[[Call], None]:
        """Make what sets the deadline of a call; raises `DeadlineExceeded` if it has passed."""
        is_stream = method.client_streaming or method.server_streaming
        most_s = self._limits.max_stream_s if method.client_streaming else self._limits.max_s
        default_s = most_s if method.client_streaming else min(self._limits.default_s, most_s)

        def admit(call: Call) -> None:
            remaining_s = call.servicer_context.time_remaining()
            if remaining_s is not None and remaining_s <= 0:
                raise DeadlineExceeded
            limit_s = default_s if remaining_s is None else min(remaining_s, most_s)
            call.deadline_s = call.started_s + limit_s
            if is_stream:
                self._watch(call)
            elif limit_s != remaining_s:  # core sees to the client's own deadline
                call.timer = asyncio.get_running_loop().call_later(limit_s, _expire, call)

        return admit

    def _watch(self, call: Call) -> None:
        """Look after a stream, and come back when a limit may have been reached.

        One timer a stream: messages only leave the time at which a wait began.
        """
        now_s = time.monotonic()
        limits = self._limits
        idle_at_s = (call.reading_since_s or now_s) + limits.idle_s
        slow_at_s = (call.writing_since_s or now_s) + limits.slow_reader_s
        next_s = min(call.deadline_s, idle_at_s, slow_at_s) - now_s
        if next_s <= 0:
            call.interrupt(
                ReaderTooSlow(limits.slow_reader_s)
                if slow_at_s <= now_s
                else StreamIdle(limits.idle_s)
                if idle_at_s <= now_s
                else DeadlineExceeded()
            )
            next_s = CLOSING_S
        call.timer = asyncio.get_running_loop().call_later(next_s, self._watch, call)


def _expire(call: Call) -> None:
    call.interrupt(DeadlineExceeded())
