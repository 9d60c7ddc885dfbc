"""Where log lines go, without ever holding up a call."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Self, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    _Line: TypeAlias = str | bytes | Callable[[], bytes]

_MAX_WAITING = 10_000  # lines, some megabytes: a burst fits, a reader that stopped does not
_COLLECTING_S = 0.01  # to wake a thread for each line costs a call more than its line
_MAX_BATCH_BYTES = 64 * 1024  # what a pipe of Linux holds, pipe(7)
_LAST_LINES_S = 1.0  # how long the end waits for a reader


class LogStream(io.TextIOBase, TextIO):
    """A file descriptor as a log, written by a thread of its own, many lines at a time.

    A reader that stopped, one that went away and a full disk cost lines, never
    calls. Leaving the context writes what is waiting; what comes later is lost.
    Lines may come from any thread.
    """

    def __init__(
        self,
        descriptor: int,
        max_waiting: int = _MAX_WAITING,
        collecting_s: float = _COLLECTING_S,
    ) -> None:
        """Begin to write.

        Args:
            descriptor: where to.
            max_waiting: how many lines may wait to be written.
            collecting_s: for how long lines are collected from the first on.
        """
        self._descriptor = descriptor
        os.set_blocking(descriptor, True)  # else a line could be torn
        self._max_waiting = max_waiting
        self._collecting_s = collecting_s
        self._waiting: deque[_Line] = deque()
        self._dropped = 0
        self._dropping = threading.Lock()
        self._is_awake = False
        self._wake = threading.Event()
        self._ended = threading.Event()
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
        self._max_waiting = 0
        self._ended.set()
        self._wake.set()
        self._thread.join(_LAST_LINES_S)

    @property
    def dropped(self) -> int:
        """How many lines were lost."""
        return self._dropped

    def isatty(self) -> bool:
        """Tell whether people read along."""
        return os.isatty(self._descriptor)

    def write(self, line: str | bytes) -> int:
        """Take a line, or lose it."""
        self.put(line)
        return len(line)

    def put(self, line: _Line) -> None:
        """Take a line, or what makes it on the thread that writes; or lose it."""
        if len(self._waiting) >= self._max_waiting:
            self._drop(1)
        else:
            self._waiting.append(line)
            if not self._is_awake:
                self._is_awake = True
                self._wake.set()

    def flush(self) -> None:
        """Do nothing: lines are written within milliseconds."""

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait()
            self._wake.clear()
            is_last = self._ended.wait(self._collecting_s)
            self._is_awake = False  # first: a line that is not seen below wakes again
            while batch := self._next_batch():
                self._write_out(batch)

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._waiting and size < _MAX_BATCH_BYTES:
            line = self._waiting.popleft()
            if not isinstance(line, str | bytes):
                try:
                    line = line()
                except Exception:  # noqa: BLE001 - the thread must live, and has nobody to tell
                    self._drop(1)
                    continue
            if isinstance(line, str):
                # A file name may hold what is not text.
                line = line.encode(errors="backslashreplace")
            batch.append(line)
            size += len(line)
        return batch

    def _write_out(self, batch: list[bytes]) -> None:
        rest = memoryview(b"".join(batch))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self._drop(_count_of_last(batch, len(rest)))

    def _drop(self, count: int) -> None:
        with self._dropping:
            self._dropped += count


def _count_of_last(lines: list[bytes], size: int) -> int:
    """Count the lines that the last bytes of them all belong to."""
    count = 0
    for line in reversed(lines):
        if size <= 0:
            break
        size -= len(line)
        count += 1
    return count
