"""Threads that read, each with a connection of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.stores.sqlite.connection import connect_reader, translated

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

R = TypeVar("R")

_THREADS = 4  # reads are short; more would only wait for the interpreter


class Readers:
    """A pool of read-only connections.

    Args:
        file: the database.
    """

    def __init__(self, file: Path) -> None:
        """Open connections when they are needed."""
        self._file = file
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store-reader")
        self._open = True

    async def run(self, read: Callable[[sqlite3.Connection], R]) -> R:
        """Run a function on a thread of the pool and return what it returns.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        if not self._open:
            raise StorageUnavailable
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    def run_blocking(self, read: Callable[[sqlite3.Connection], R]) -> R:
        """Do as `run` does, for a caller on a thread of its own.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        if not self._open:
            raise StorageUnavailable
        return self._threads.submit(self._read, read).result()

    def close(self) -> None:
        """Wait for the reads that run, then end."""
        self._open = False
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _read(self, read: Callable[[sqlite3.Connection], R]) -> R:
        with translated():
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = connect_reader(self._file)
                self._connections.append(connection)
            return read(connection)
