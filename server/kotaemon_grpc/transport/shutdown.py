"""The way down: the first signal asks for a graceful stop, the second ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_STATUS_BASE = 128  # POSIX shells report 128 + n for a process that signal n ended


class StopSignals:
    """Listens to SIGTERM and SIGINT while its context is open: the drain belongs inside it.

    Args:
        exit_now: ends the process with a status, on a second signal. No clean-up
            runs: what was acknowledged is on disk anyway.
    """

    def __init__(self, exit_now: Callable[[int], object] = os._exit) -> None:
        self._exit_now = exit_now
        self._first: signal.Signals | None = None
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    async def wait_for_stop(self) -> signal.Signals:
        """Wait for the first signal and return it."""
        await self._stopped.wait()
        return self._first or signal.SIGTERM

    def _on_signal(self, number: signal.Signals) -> None:
        if self._first is not None:
            self._exit_now(_EXIT_STATUS_BASE + number)
        self._first = self._first or number
        self._stopped.set()
