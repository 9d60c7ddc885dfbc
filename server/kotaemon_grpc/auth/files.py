"""Files that others read while they are written: whole at any time, and by one writer.

And files that others write: read without trust in what they are.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kotaemon_grpc.auth.reload import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1024 * 1024
"""The most that a file of certificates, keys or settings has: far more than any needs."""

PRIVATE_FILE = 0o600
PUBLIC_FILE = 0o644
PRIVATE_DIRECTORY = 0o700


def read(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file that may be anything, or turn into it: a pipe would hold up its reader for ever.

    Args:
        path: the file, or a link to it.
        max_bytes: a larger file is refused, and not read.

    Raises:
        OSError: it is missing or cannot be read.
        SourceError: it is no regular file, or too large.
    """
    # Without O_NONBLOCK, to open a pipe is to wait for one who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SourceError("it is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # It may grow while it is read.
            content = b"" if found.st_size > max_bytes else file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if max(found.st_size, len(content)) > max_bytes:
        raise SourceError(f"it is larger than {max_bytes} bytes")
    return content


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only writer of a file, whose directory is created if it is missing; wait for it.

    Raises:
        OSError: the directory cannot be written.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    # A file of its own: the one that is written is replaced, and its lock with it.
    with holding(path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def holding(lock: Path) -> Iterator[None]:
    """Hold a lock, which is a file that is created if it is missing; wait for it.

    Raises:
        OSError: its directory cannot be written.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


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


def replace(path: Path, content: bytes) -> None:
    """Put a file in place as `write` does, with mode 0600 and safe from a power cut.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    write(path, content, PRIVATE_FILE)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # a revocation must not be undone by a power cut
    finally:
        os.close(directory)
