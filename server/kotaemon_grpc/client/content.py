"""A file that is sent in pieces, more than once if need be."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK_BYTES = 256 * 1024  # few messages a file, and each far below the limit of 4 MiB


@dataclass(frozen=True, slots=True)
class Measured:
    """The SHA-256 of a content, in hexadecimal digits, and its size."""

    sha256: str
    size_bytes: int


class Content:
    """Reads a seekable file from threads, wherever another reading of it stands.

    A thread cannot be cancelled: an attempt that failed may still be reading when the
    next one begins.

    Args:
        file: what is read; it is left open.

    Raises:
        TypeError: it is no binary file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Read nothing yet."""
        # All kinds of text files have an encoding, those of `tempfile` and `codecs` too.
        if not hasattr(file, "seek") or hasattr(file, "encoding"):
            raise TypeError(
                f"content must be a binary file, not {type(file).__name__}; "
                'open the file in binary mode, as in open(path, "rb")'
            )
        self._file = file
        self._lock = threading.Lock()

    async def measured(self) -> Measured:
        """Read it once.

        Raises:
            OSError: it could not be read.
        """
        return await asyncio.to_thread(self._measured)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read it from its start, in pieces that a message can carry.

        Raises:
            OSError: it could not be read.
        """
        at = 0
        while chunk := await asyncio.to_thread(self._read, at):
            yield chunk
            at += len(chunk)

    def _measured(self) -> Measured:
        with self._lock:
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256")  # type: ignore[arg-type] # it wants a raw file
            return Measured(digest.hexdigest(), self._file.seek(0, os.SEEK_END))

    def _read(self, at: int) -> bytes:
        with self._lock:
            self._file.seek(at)
            return self._file.read(_CHUNK_BYTES)
