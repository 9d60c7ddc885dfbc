"""Temporary files for content that is arriving."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kotaemon_grpc.core.errors import StorageFull, StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BUFFER_BYTES = 1 << 20  # most documents are smaller, and never touch the disk here


class TemporarySpool:
    """Implements `core.ports.Spool` with files in one directory."""

    def __init__(self, directory: Path) -> None:
        """Take the directory, which exists and is ours alone."""
        self._directory = directory

    @asynccontextmanager
    async def open(self) -> AsyncIterator[TemporaryFile]:
        """Open a new file, which is gone when the context is left."""
        file = TemporaryFile(self._directory)
        try:
            yield file
        finally:
            await file.remove()


class TemporaryFile:
    """Implements `core.ports.SpoolFile`: collects in memory, and writes on threads."""

    def __init__(self, directory: Path) -> None:
        """Take the directory; the file is made when there is much to write."""
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Add to the end.

        Raises:
            StorageFull: there is no room for it.
            StorageUnavailable: it cannot be written.
        """
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER_BYTES:
            await asyncio.to_thread(self._flush)

    async def finish(self) -> bytes | Path:
        """Return all that was written: itself if it is small, else the path of a file.

        Raises:
            StorageFull: there is no room for it.
            StorageUnavailable: it cannot be written.
        """
        if self._file is None:
            return bytes(self._buffer)
        return await asyncio.to_thread(self._flush)

    async def remove(self) -> None:
        """Close and delete the file, if there is one."""
        if self._file is not None:
            await asyncio.to_thread(_remove, self._file)

    def _flush(self) -> Path:
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(  # noqa: SIM115 - closed by remove()
                    dir=self._directory, delete=False
                )
            self._file.write(self._buffer)
            self._file.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull from error
            raise StorageUnavailable from error
        self._buffer.clear()
        return Path(self._file.name)


def _remove(file: IO[bytes]) -> None:
    Path(file.name).unlink(missing_ok=True)
    # What a full disk left in the file's buffer is not wanted any more.
    with suppress(OSError):
        file.close()
