"""Files on disk that can be imported. Needs the standard library only."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kotaemon_grpc.core.media_types import ENDINGS, media_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file of a supported kind.

    Args:
        path: as it was reached from the path that was given.
        root: the path that was given: the file itself, or a directory above it.
        mime_type: `text/markdown` or `text/plain`.
        size_bytes: when it was found.
    """

    path: Path
    root: Path
    mime_type: str
    size_bytes: int

    @property
    def uri(self) -> str:
        """The `file:` URI of the path as it is named: where links lead may change any time."""
        return Path(os.path.abspath(self.path)).as_uri()  # noqa: PTH100 - resolve follows links


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A path that cannot be imported, and why, in words for people."""

    path: Path
    reason: str


def find_documents(paths: Iterable[Path | str]) -> Iterator[FoundFile | Unreadable]:
    """Find the documents at and below some paths, sorted within each directory, links last.

    Below a directory, hidden entries and other kinds of file are passed over. A
    symbolic link is followed, but nothing is visited twice, so a loop ends.
    What cannot be read is reported, never raised.
    """
    visited: set[Path] = set()
    for given in paths:
        root = Path(given)
        yield from _visit(root, root, visited)


def _visit(first: Path, root: Path, visited: set[Path]) -> Iterator[FoundFile | Unreadable]:
    waiting = [first]
    while waiting:
        path = waiting.pop()
        try:
            status = path.stat()
            place = path.resolve()
            if place in visited:
                continue
            visited.add(place)
            if stat.S_ISDIR(status.st_mode):
                # Links last: of two ways to a file, its own name is the one that counts.
                waiting += sorted(_children(path), key=_links_last, reverse=True)
                continue
        except (OSError, ValueError) as error:
            yield Unreadable(path, _reason(error))
            continue
        yield from _file(path, root, status)


def _links_last(path: Path) -> tuple[bool, Path]:
    return path.is_symlink(), path


def _children(directory: Path) -> Iterator[Path]:
    for child in directory.iterdir():
        if not child.name.startswith(".") and (media_type_of(child.name) or child.is_dir()):
            yield child


def _file(path: Path, root: Path, status: os.stat_result) -> Iterator[FoundFile | Unreadable]:
    mime_type = media_type_of(path.name)
    if not stat.S_ISREG(status.st_mode):
        yield Unreadable(path, "not a regular file")
    elif mime_type is None:
        endings = " ".join(ENDINGS)
        yield Unreadable(path, f"not a supported kind of file; supported are {endings}")
    elif not os.access(path, os.R_OK):
        yield Unreadable(path, "permission denied")
    else:
        yield FoundFile(path, root, mime_type, status.st_size)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "not a valid path"
