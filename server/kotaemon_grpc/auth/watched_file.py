"""A file that changes while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.auth.files import read

if TYPE_CHECKING:
    from pathlib import Path

POLL_S = 2.0
"""How long it may take until a change is noticed."""

Stamp: TypeAlias = tuple[int, ...]


def stamp_of(path: Path) -> Stamp:
    """Return what is another for another file, or content, at the end of all links.

    Raises:
        OSError: the file is missing or cannot be reached.
    """
    found = path.stat()
    # ctime tells also of a file put in place with an old mtime, and of a chmod.
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


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
        self._seen: Stamp | None = None

    def read(self) -> bytes | None:
        """Return the content; None if the file is the one that was given last.

        Raises:
            OSError: it is missing or cannot be read; tried again the next time.
            SourceError: it is no regular file, or too large.
        """
        try:
            # Looked at before it is read: what is written meanwhile is a change the next time.
            stamp = stamp_of(self._path)
            if stamp == self._seen:
                return None
            self._seen = stamp
            return read(self._path, self._max_bytes)
        except OSError:
            self._seen = None
            raise
