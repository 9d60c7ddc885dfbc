"""What engines did: a line for each piece of work, of all servers of a row in one file."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_DONE, _AGAIN = "done", "again"


class Ledger:
    """The engine's side. A line is written at once, so that `kill -9` leaves none in part."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._read_to = 0
        self._known: set[str] = set()

    def has(self, request_id: str) -> bool:
        """Tell whether work was done for a request, by whichever server."""
        while found := os.pread(self._file, 1 << 20, self._read_to):
            whole = found[: found.rfind(b"\n") + 1]
            self._read_to += len(whole)
            self._known.update(line.split()[2] for line in whole.decode().splitlines())
        return request_id in self._known

    def done(self, number: str, request_id: str) -> None:
        """Enter work that was done: this line is its effect."""
        self._enter(_DONE, number, request_id)

    def again(self, number: str, request_id: str) -> None:
        """Enter that work was asked for which had been done."""
        self._enter(_AGAIN, number, request_id)

    def _enter(self, verb: str, number: str, request_id: str) -> None:
        os.write(self._file, f"{verb} {number} {request_id or '-'}\n".encode())


@dataclass
class Entries:
    """All that a ledger has.

    Attributes:
        done: how often each question's work was done, by the question's number.
        again: how often an engine was asked for work that it found in the ledger.
    """

    done: Counter[int] = field(default_factory=Counter)
    again: int = 0

    @property
    def twice(self) -> int:
        """How many questions were worked on more than once."""
        return sum(1 for times in self.done.values() if times > 1)


def read(path: Path) -> Entries:
    """Read the ledger of servers that have ended, or are idle."""
    entries = Entries()
    for line in path.read_text().splitlines():
        verb, number, _ = line.split()
        if verb == _DONE:
            entries.done[int(number)] += 1
        else:
            entries.again += 1
    return entries
