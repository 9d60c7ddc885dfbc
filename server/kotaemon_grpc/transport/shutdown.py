"""The way down: the first signal asks for a graceful stop, the second ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SAME_REQUEST_S = 0.5
"""Signals so close together are one request: some tools signal a process and its group."""

_EXIT_STATUS_BASE = 128  # POSIX shells report 128 + n for a process that signal n ended


class StopSignals:
    """Listens to `STOP_SIGNALS` while its context is open: the drain belongs inside it.

    SIGHUP stays ignored if it was: so nohup starts what is to outlive its terminal.

    Args:
        exit_now: ends the process with a status, on a second signal. No clean-up
            runs: what was acknowledged is on disk anyway.
        clock: a time in seconds that never goes back.
    """

    def __init__(
        self,
        exit_now: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exit_now = exit_now
        self._clock = clock
        self._first_at_s = 0.0
        self._first: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            before = signal.getsignal(number)
            if number is signal.SIGHUP and before is signal.SIG_IGN:
                continue
            self._before[number] = before
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number, before in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, before)

    async def wait_for_stop(self) -> signal.Signals:
        """Wait for the first signal and return it."""
        await self._stopped.wait()
        return self._first or signal.SIGTERM

    def _on_signal(self, number: signal.Signals) -> None:
        if self._first is None:
            self._first = number
            self._first_at_s = self._clock()
            self._stopped.set()
        elif self._clock() - self._first_at_s >= SAME_REQUEST_S:
            self._exit_now(_EXIT_STATUS_BASE + number)


async def done_before(
    work: Coroutine[object, object, None], end: Coroutine[object, object, object]
) -> bool:
    """Do a piece of work and return True; if the end comes first, cancel it and return False."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(end)
    try:
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
            return True
        await ending
        return False
    finally:
        for task in (working, ending):
            task.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)


def exit_within(
    limit_s: float, status: int, exit_now: Callable[[int], object] = os._exit
) -> threading.Timer:
    """End the process after a time, whatever hangs then, unless what is returned is cancelled.

    A thread of its own does it: the event loop may be what hangs.
    """
    timer = threading.Timer(limit_s, exit_now, (status,))
    timer.daemon = True
    timer.start()
    return timer
