"""The layers of an image, one over the other: layer.md of the image-spec, version 1.1."""

from __future__ import annotations

import posixpath
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar

from releasing.program import Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

WHITEOUT = ".wh."  # what a layer takes away
OPAQUE = ".wh..wh..opq"  # the same for all that a directory had
MAX_BYTES = 2 << 30  # of a layer, unpacked
SET_ID = 0o6000  # setuid and setgid
CAPABILITY = "SCHILY.xattr.security.capability"  # setuid by parts: capabilities(7)

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Layers:
    """What the layers make together.

    Args:
        opened: opens a layer of its descriptor.
        descriptors: of the layers, the lowest first.
        reading: turns what a damaged layer raises into `Refused`.
    """

    opened: Callable[[dict[str, Any]], IO[bytes]]
    descriptors: list[dict[str, Any]]
    reading: Callable[[], AbstractContextManager[None]]

    def files(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Read the regular files whose path is wanted."""

        def keep(tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bytes | None:
            if (member.isreg() or member.islnk()) and wanted(path):
                return read(tar, member)
            return None

        return self._merged(keep)

    def privileged(self) -> list[str]:
        """Name the files that are setuid or setgid, or have capabilities."""

        def keep(_: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> str | None:
            has = member.mode & SET_ID or CAPABILITY in member.pax_headers
            return path if has and not member.isdir() else None

        return sorted(self._merged(keep))

    def _merged(
        self, keep: Callable[[tarfile.TarFile, tarfile.TarInfo, str], Kept | None]
    ) -> dict[str, Kept]:
        """Keep something of the entries that no other one has replaced, by path."""
        below: dict[str, Kept] = {}
        links: set[str] = set()
        for descriptor in self.descriptors:
            with (
                self.reading(),
                self.opened(descriptor) as blob,
                tarfile.open(fileobj=blob) as tar,
            ):
                added: dict[str, Kept] = {}
                for member in tar:
                    path = self._path(member)
                    if take_away(below, path):
                        continue
                    refuse_through(path, links)
                    links.discard(path)
                    if member.issym():
                        links.add(path)
                    for each in (below, added):
                        replace(each, path, is_directory=member.isdir())
                    if (kept := keep(tar, member, path)) is not None:
                        added[path] = kept
                below |= added
        return below

    @staticmethod
    def _path(member: tarfile.TarInfo) -> str:
        if max(member.offset_data, 0) + member.size > MAX_BYTES:
            raise Refused(f"a layer of the image has more than {MAX_BYTES} bytes")
        path = posixpath.normpath(f"/{member.name}").lstrip("/")
        if ".." in member.name.split("/"):
            raise Refused(f"a layer of the image leaves its root: {member.name}")
        return path


def take_away(below: dict[str, Kept], path: str) -> bool:
    """Do what an entry says that only takes away; False for any other entry."""
    folder, name = posixpath.split(path)
    if name == OPAQUE:
        gone = [each for each in below if each.startswith(f"{folder}/" if folder else "")]
        for each in gone:
            del below[each]
        return True
    if name.startswith(WHITEOUT):
        replace(below, posixpath.join(folder, name.removeprefix(WHITEOUT)), is_directory=False)
        return True
    return False


def replace(entries: dict[str, Kept], path: str, *, is_directory: bool) -> None:
    """Take away what an entry covers: a directory alone leaves what is in one."""
    entries.pop(path, None)
    if not is_directory:
        for each in [each for each in entries if each.startswith(f"{path}/")]:
            del entries[each]


def refuse_through(path: str, links: set[str]) -> None:
    """See that an entry is where its path says, and not where a link leads to."""
    folder = posixpath.dirname(path)
    while folder:
        if folder in links:
            raise Refused(f"a layer of the image writes through the link {folder}: {path}")
        folder = posixpath.dirname(folder)


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Read a file of a layer."""
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(member.name)
    return file.read()
