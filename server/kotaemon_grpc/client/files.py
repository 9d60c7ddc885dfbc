"""Files that a client is given, and may be replaced while it runs."""

from __future__ import annotations

from pathlib import Path

from kotaemon_grpc.client.errors import ConfigurationError


def path_of(given: object, noun: str) -> Path:
    """Return a path that may be given as text.

    Raises:
        ConfigurationError: it is neither, or is empty.
    """
    if not isinstance(given, str | Path) or given == "":
        raise ConfigurationError(f"{noun} must be a path, not {given!r}")
    return Path(given)


def stamp_of(path: Path) -> object:
    """Return what differs after a file, or what a link points to, was replaced.

    Raises:
        OSError: it cannot be looked at.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
