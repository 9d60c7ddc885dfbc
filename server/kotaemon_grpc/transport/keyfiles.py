"""Key files: private from their first byte on, whole or not there, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kotaemon_grpc.auth import files
from kotaemon_grpc.auth.reload import SourceError
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRIVATE_FILE = 0o600
PUBLIC_FILE = 0o644
PRIVATE_DIRECTORY = 0o700
_LOCK = ".lock"


def write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place in one step, with this mode from the start.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path, what: str) -> bytes:
    """Read a file that must be there.

    Args:
        path: the file.
        what: its kind, for the error: `certificate`, `key`.

    Raises:
        OperatorError: it is missing, cannot be read, is no regular file or too large.
    """
    try:
        return files.read(path)
    except OSError as error:
        raise OperatorError(
            f"{what} {path} cannot be read: {os.strerror(error.errno or 0).lower()}; "
            'run "kotaemon-grpc certs init" or name another file'
        ) from None
    except SourceError as error:
        raise OperatorError(f"{what} {path} cannot be used: {error}; name another file") from None


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Write to a directory, which is created with mode 0700 if it is missing.

    Raises:
        OperatorError: the directory cannot be written.
    """
    try:
        if not directory.is_dir():
            directory.parent.mkdir(parents=True, exist_ok=True)
            directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        yield
    except OSError as error:
        raise OperatorError(
            f"cannot write certificates to {directory}: {os.strerror(error.errno or 0).lower()}; "
            "make it writable or choose another directory"
        ) from None


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory while writing to it; wait for it.

    Raises:
        OperatorError: the directory cannot be written.
    """
    with writing(directory):
        descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock
