"""How late the event loop comes to what is due: what every call waits for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_INTERVAL_S = 0.5


async def watch_loop_lag(
    report: Callable[[float], None],
    *,
    interval_s: float = _INTERVAL_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> NoReturn:
    """Measure, until cancelled, how late a wake-up comes.

    Args:
        report: takes the lag in seconds, 0 or more, after each wake-up.
        interval_s: how long to sleep in between.
        clock: tells the time in seconds, from any start.
        sleep: waits as many seconds, on the loop that is measured.
    """
    while True:
        due_s = clock() + interval_s
        await sleep(interval_s)
        report(max(0.0, clock() - due_s))
