"""Where log lines go, without ever holding up a call."""

from __future__ import annotations

import io
import math
import os
import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Self, TextIO, TypeAlias

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    _Line: TypeAlias = str | bytes | Callable[[], bytes]

_MAX_WAITING = 10_000  # lines, some megabytes: a burst fits, a reader that stopped does not
_COLLECTING_S = 0.01  # to wake a thread for each line costs a call more than its line
_MAX_BATCH_BYTES = 64 * 1024  # what a pipe of Linux holds, pipe(7)
_LAST_LINES_S = 1.0  # how long the end waits for a reader
_RESERVE = 1 / 10  # of the room for waiting lines: audit lines alone may take it


class _AuditLine(bytes):
    """A line that only the reserve keeps from being lost among all the others."""

    __slots__ = ()


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
            max_waiting: how many lines may wait to be written, audit lines among them;
                for these alone is the last tenth.
            collecting_s: for how long lines are collected from the first on.
        """
        self._descriptor = descriptor
        os.set_blocking(descriptor, True)  # else a line could be torn
        self._max_audit_waiting = max_waiting
        self._max_waiting = max_waiting - math.ceil(max_waiting * _RESERVE)
        self._collecting_s = collecting_s
        self._waiting: deque[_Line] = deque()
        self._dropped = Counter(dict.fromkeys((names.LINES_AUDIT, names.LINES_OTHER), 0))
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
        self._max_waiting = self._max_audit_waiting = 0
        self._ended.set()
        self._wake.set()
        self._thread.join(_LAST_LINES_S)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many lines were lost, by their kind."""
        with self._dropping:
            return dict(self._dropped)

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
            self._drop((line,))
        else:
            self._take(line)

    def put_audit(self, line: str) -> None:
        """Take a line that is not to be lost while there is any room; or lose it."""
        encoded = _AuditLine(_encoded(line))
        if len(self._waiting) >= self._max_audit_waiting:
            self._drop((encoded,))
        else:
            self._take(encoded)

    def flush(self) -> None:
        """Do nothing: lines are written within milliseconds."""

    def _take(self, line: _Line) -> None:
        self._waiting.append(line)
        if not self._is_awake:
            self._is_awake = True
            self._wake.set()

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
                    self._drop((line,))
                    continue
            if isinstance(line, str):
                line = _encoded(line)
            batch.append(line)
            size += len(line)
        return batch

    def _write_out(self, batch: list[bytes]) -> None:
        rest = memoryview(b"".join(batch))
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self._drop(_last(batch, len(rest)))

    def _drop(self, lines: Iterable[object]) -> None:
        audit = names.LINES_AUDIT
        kinds = [audit if isinstance(line, _AuditLine) else names.LINES_OTHER for line in lines]
        with self._dropping:
            self._dropped.update(kinds)


class AuditStream(io.TextIOBase, TextIO):
    """Writes audit lines to a log, into the room that is reserved for them."""

    def __init__(self, stream: LogStream) -> None:
        """Take the log."""
        self._stream = stream

    def write(self, line: str) -> int:
        """Take a line, or lose it."""
        self._stream.put_audit(line)
        return len(line)


def _encoded(line: str) -> bytes:
    # A file name may hold what is not text.
    return line.encode(errors="backslashreplace")


def _last(lines: list[bytes], size: int) -> Iterator[bytes]:
    """Find the lines that the last bytes of them all belong to."""
    for line in reversed(lines):
        if size <= 0:
            return
        size -= len(line)
        yield line
