"""The data directory: what lies where, and that one server at a time uses it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_PID_BYTES = 32


class DataDirectory:
    """A data directory that this process has locked.

    The kernel drops the lock with the process, however that ends.
    """

    def __init__(self, path: Path, lock: int) -> None:
        """Take what `open` prepared."""
        self.path = path
        self.database_file = path / "kotaemon.sqlite3"
        self.index_dir = path / "index"
        self.spool_dir = path / "tmp"
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> DataDirectory:
        """Create the directory if it is new, lock it, and empty its spool.

        Args:
            path: of the directory; its parents are created too.

        Raises:
            OperatorError: it cannot be used, or another server uses it.
        """
        path = path.absolute()
        with _explained(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory = cls(path, _lock(path))
        try:
            with _explained(path):
                directory.index_dir.mkdir(mode=0o700, exist_ok=True)
                shutil.rmtree(directory.spool_dir, ignore_errors=True)
                directory.spool_dir.mkdir(mode=0o700, exist_ok=True)
        except BaseException:
            directory.close()
            raise
        return directory

    def close(self) -> None:
        """Let another server use it."""
        os.close(self._lock)


def _lock(path: Path) -> int:
    file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
    except BlockingIOError:
        holder = os.pread(file, _MAX_PID_BYTES, 0).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise OperatorError(
            f'data directory "{path}" is used by another server (pid {holder}); '
            "stop it or choose another --data-dir"
        ) from None
    except BaseException:
        os.close(file)
        raise
    return file


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise OperatorError(
            f'data directory "{path}" is not a directory; choose another --data-dir'
        ) from None
    except OSError as error:
        if error.errno in _FULL:
            raise no_room(path) from error
        reason = (error.strerror or "unknown error").lower()
        raise OperatorError(
            f'data directory "{path}" cannot be written ({reason}); '
            "give the server write access or choose another --data-dir"
        ) from error


def no_room(path: Path) -> OperatorError:
    """Make the error of a directory that lies on a full disk."""
    return OperatorError(
        f'the disk of data directory "{path}" is full; make room or choose another --data-dir'
    )
