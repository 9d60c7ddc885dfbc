"""Where log lines go, without ever holding up a call."""

from __future__ import annotations

import io
import os
import queue
import threading
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

_MAX_WAITING = 10_000  # lines, some megabytes: a burst fits, a reader that stopped does not
_LAST_LINES_S = 1.0  # how long the end waits for a reader


class LogStream(io.TextIOBase, TextIO):
    """A file descriptor as a log, written by a thread of its own.

    A reader that stopped, one that went away and a full disk cost lines, never
    calls. Leaving the context writes what is waiting.

    Attributes:
        dropped: how many lines were lost.
    """

    def __init__(self, descriptor: int, max_waiting: int = _MAX_WAITING) -> None:
        """Take the descriptor, and how many lines may wait to be written."""
        self.dropped = 0
        self._descriptor = descriptor
        os.set_blocking(descriptor, True)  # else a line could be torn
        self._waiting: queue.Queue[str | None] = queue.Queue(max_waiting)
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._waiting.put(None, timeout=_LAST_LINES_S)
        except queue.Full:
            return  # nobody reads
        self._thread.join(_LAST_LINES_S)

    def isatty(self) -> bool:
        """Tell whether people read along."""
        return os.isatty(self._descriptor)

    def write(self, text: str) -> int:
        """Queue a line, or lose it."""
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self.dropped += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written as they come."""

    def _run(self) -> None:
        while (text := self._waiting.get()) is not None:
            # A file name may hold what is not text.
            line = text.encode(errors="backslashreplace")
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                self.dropped += 1
