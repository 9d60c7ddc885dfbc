"""Files that change while the server runs: noticed when read, whole when written."""

from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kotaemon_grpc.auth.reload import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLL_S = 2.0
"""How long it may take until a change is noticed."""

_PRIVATE_FILE = 0o600
_PRIVATE_DIRECTORY = 0o700


class WatchedFile:
    """A source that gives the content of a file when it is not the one it gave last.

    Args:
        path: the file, or a link to it, which may come to point elsewhere: so a
            ConfigMap or Secret of Kubernetes is replaced.
        max_bytes: a larger file is refused.
        interval_s: how often it is looked at.
    """

    required = True

    def __init__(self, path: Path, *, max_bytes: int, interval_s: float = POLL_S) -> None:
        self.name = str(path)
        self.interval_s = interval_s
        self._path = path
        self._max_bytes = max_bytes
        self._seen: tuple[int, ...] | None = None

    def read(self) -> bytes | None:
        """Return the content; None if the file is the one that was given last.

        Raises:
            OSError: it is missing or cannot be read; tried again the next time.
            SourceError: it is too large.
        """
        try:
            # Looked at before it is read: what is written meanwhile is a change the next time.
            found = self._path.stat()
            # ctime tells also of a file put in place with an old mtime, and of a chmod.
            stamp = (found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size)
            if stamp == self._seen:
                return None
            with self._path.open("rb") as file:
                content = file.read(self._max_bytes + 1)
        except OSError:
            self._seen = None
            raise
        self._seen = stamp
        if len(content) > self._max_bytes:
            raise SourceError(f"it is larger than {self._max_bytes} bytes")
        return content


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only writer of a file, whose directory is created if it is missing; wait for it.

    Raises:
        OSError: the directory cannot be written.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    # A file of its own: the one that is written is replaced, and its lock with it.
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def replace(path: Path, content: bytes) -> None:
    """Put a file in place in one step, with mode 0600 from the start.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # a revocation must not be undone by a power cut
    finally:
        os.close(directory)
