"""Where log lines go, and what becomes of those that cannot be written."""

from __future__ import annotations

import io
import os
from typing import TextIO


class LogStream(io.TextIOBase, TextIO):
    """stdout as a log: a reader that goes away or a full disk costs lines, not calls."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        """Tell whether people read along."""
        return self._stream.isatty()

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, or lose it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Go on. There is no other place to tell of it."""
        if isinstance(error, BrokenPipeError):
            # What is left in the buffer must not fail again when Python ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
