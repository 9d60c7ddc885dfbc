"""Connections to the database, what its errors mean, and how times are kept."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import AgentError, OperatorError, StorageFull, StorageUnavailable
from kotaemon_grpc.stores.sqlite.directory import no_room
from kotaemon_grpc.stores.sqlite.schema import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_TIMEOUT_S = 5.0
_CACHED_STATEMENTS = 256  # a retrieval has one statement for each number of hits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def connect_writer(file: Path) -> sqlite3.Connection:
    """Open the one connection that writes: create the database, or migrate it.

    Raises:
        OperatorError: it cannot be used.
    """
    connection = None
    try:
        connection = _connect(str(file), uri=False)
        _keep_log(connection, file)
        # An acknowledged write survives a loss of power, not only of the process.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        migrate(connection)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _explained(file, error) from error
        raise
    return connection


def _keep_log(connection: sqlite3.Connection, file: Path) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise OperatorError(
            f'the file system of "{file}" cannot keep a write-ahead log; '
            "choose a --data-dir on a local disk"
        )


def connect_reader(file: Path) -> sqlite3.Connection:
    """Open a connection that reads only; the writer has been opened before."""
    return _connect(f"{file.as_uri()}?mode=ro", uri=True)


def _connect(database: str, *, uri: bool) -> sqlite3.Connection:
    return sqlite3.connect(
        database,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        # Each is used by one thread at a time, and closed by another in the end.
        check_same_thread=False,
        cached_statements=_CACHED_STATEMENTS,
        uri=uri,
    )


def _explained(file: Path, error: sqlite3.Error) -> OperatorError:
    if _is_full(error):
        return no_room(file.parent)
    if _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return OperatorError(
            f'"{file}" is damaged or no database of this server; '
            "restore it from a backup or move it away"
        )
    return OperatorError(
        f'"{file}" cannot be used ({error}); '
        "give the server write access or choose another --data-dir"
    )


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of SQLite as those of the domain.

    Raises:
        StorageFull: the disk or the database is full. Becomes RESOURCE_EXHAUSTED.
        StorageUnavailable: anything else that the database met. Becomes UNAVAILABLE.
    """
    try:
        yield
    except sqlite3.Error as error:
        translation = storage_error(error)
        if translation is None:
            raise
        raise translation from error


def storage_error(error: sqlite3.Error) -> AgentError | None:
    """Return what an error means to a caller; None for a mistake in this program."""
    if _is_full(error):
        return StorageFull()
    if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
        return StorageUnavailable()
    return None


def _is_full(error: sqlite3.Error) -> bool:
    # The shared-memory file of the log is grown by writing, too.
    return (
        _code(error) == sqlite3.SQLITE_FULL
        or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_SHMSIZE
    )


def _code(error: sqlite3.Error) -> int:
    # The primary result code: https://www.sqlite.org/rescode.html
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def time_to_us(time: datetime) -> int:
    """Turn a time with a zone into microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def time_from_us(microseconds: int) -> datetime:
    """Turn microseconds since 1970 into a time in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
