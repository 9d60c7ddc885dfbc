"""An image as an OCI archive: https://github.com/opencontainers/image-spec, version 1.1."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from typing import TYPE_CHECKING, Any, Self

from releasing.program import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
WHITEOUT = ".wh."  # image-spec, layer.md: what a layer takes away
OPAQUE = ".wh..wh..opq"  # the same for all that a directory had


class ImageArchive:
    """An image of one platform; to be closed by `with`.

    Args:
        path: an archive as podman, buildah, skopeo and docker write it.

    Raises:
        Refused: it is no such archive, or it holds several images.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - the object is the context
            self._members = {posixpath.normpath(each.name): each for each in self._tar}
            index = json.loads(self._read("index.json"))
        except (OSError, tarfile.TarError, KeyError, ValueError) as error:
            raise Refused(f"{path} is no OCI archive of an image") from error
        self._descriptor = self._image(index)
        self._manifest = json.loads(self._blob(self._descriptor["digest"]))
        self.config: dict[str, Any] = json.loads(self._blob(self._manifest["config"]["digest"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    @property
    def digest(self) -> str:
        """The digest of the manifest, which is the name that the image has in every registry."""
        digest: str = self._descriptor["digest"]
        return digest

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the image."""
        return self.config.get("config", {}).get("Labels") or {}

    @property
    def layers_bytes(self) -> int:
        """The size of what a node pulls, in bytes."""
        return sum(layer["size"] for layer in self._manifest["layers"])

    def files(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Read regular files of the image's file system.

        Args:
            wanted: whether a path, which has no leading slash, is to be read.
        """
        found: dict[str, bytes] = {}
        for layer in self._manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(self._blob(layer["digest"]))) as tar:
                added = {}
                for member in tar:
                    path = posixpath.normpath(member.name).removeprefix("/")
                    for gone in removed(path, list(found)):
                        del found[gone]
                    if (member.isreg() or member.islnk()) and wanted(path):
                        added[path] = read(tar, member)
                found |= added
        return found

    def write(self, target: Path, name: str, epoch_s: int) -> None:
        """Write the image alone, so that the same image makes the same archive.

        Args:
            target: the file to write.
            name: the tag in the archive.
            epoch_s: the time of the entries, in seconds since 1970.
        """
        annotations = {"org.opencontainers.image.ref.name": name}
        descriptor = {key: self._descriptor[key] for key in ("mediaType", "digest", "size")} | {
            "annotations": annotations
        }
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}
        parts = [self._manifest["config"], *self._manifest["layers"], descriptor]
        digests = sorted({part["digest"] for part in parts})
        with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path, content in self._entries(digests, index):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mtime = len(content), epoch_s
                tar.addfile(entry, io.BytesIO(content))

    def _entries(self, digests: list[str], index: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        yield "oci-layout", b'{"imageLayoutVersion":"1.0.0"}'
        yield "index.json", json.dumps(index, sort_keys=True).encode()
        for digest in digests:
            yield f"blobs/{digest.replace(':', '/')}", self._blob(digest)

    def _image(self, index: dict[str, Any]) -> dict[str, Any]:
        """Find the one image; what is attached to an image has no platform."""
        images = [
            each
            for each in index["manifests"]
            if each.get("platform", {}).get("architecture") != "unknown"
        ]
        if len(images) != 1:
            raise Refused(f"the archive holds {len(images)} images, where one is expected")
        if images[0].get("mediaType") == INDEX:
            return self._image(json.loads(self._blob(images[0]["digest"])))
        return dict(images[0])

    def _blob(self, digest: str) -> bytes:
        """Read a blob and hold it against its name."""
        algorithm, _, expected = digest.partition(":")
        content = self._read(f"blobs/{algorithm}/{expected}")
        if algorithm != "sha256" or hashlib.sha256(content).hexdigest() != expected:
            raise Refused(f"the blob {digest} of the image is damaged")
        return content

    def _read(self, name: str) -> bytes:
        return read(self._tar, self._members[name])


def removed(path: str, paths: list[str]) -> list[str]:
    """Say which of the paths an entry of a layer takes away."""
    folder, name = posixpath.split(path)
    if name == OPAQUE:
        return [each for each in paths if each.startswith(f"{folder}/")]
    if name.startswith(WHITEOUT):
        path = posixpath.join(folder, name.removeprefix(WHITEOUT))
        return [each for each in paths if each == path or each.startswith(f"{path}/")]
    return []


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Read a file of an archive."""
    content = tar.extractfile(member)
    if content is None:
        raise KeyError(member.name)
    return content.read()
