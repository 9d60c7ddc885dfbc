"""An image as an OCI archive: https://github.com/opencontainers/image-spec, version 1.1."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import posixpath
import tarfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Self

from releasing.layers import Layers
from releasing.program import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INDEX = "application/vnd.oci.image.index.v1+json"
DOCUMENT_BYTES = 4 << 20  # image-spec, manifest.md, takes this for what a registry has to take
BLOB_BYTES = 2 << 30  # of a layer, compressed
CHUNK_BYTES = 1 << 20
# What a damaged archive makes of the readers of tar, JSON and compressed data.
DAMAGE = (
    OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError,
    KeyError, ValueError, TypeError, AttributeError,
)  # fmt: skip


class ImageArchive:
    """An image of one platform; to be closed by `with`.

    Args:
        path: an archive as podman, buildah, skopeo and docker write it.

    Raises:
        Refused: it is no such archive, it is damaged, or it holds several images.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - the object is the context
        except (OSError, tarfile.TarError) as error:
            raise Refused(f"{path} is no OCI archive of an image") from error
        try:
            with self._reading():
                self._read_documents()
        except Refused:
            self._tar.close()
            raise

    def _read_documents(self) -> None:
        self._members = {posixpath.normpath(each.name): each for each in self._tar}
        if "index.json" not in self._members:
            raise Refused(f"{self._path} is no OCI archive of an image")
        with self._open("index.json", DOCUMENT_BYTES) as file:
            self._descriptor = self._image(json.load(file))
        self._manifest = self._document(self._descriptor)
        self.config: dict[str, Any] = self._document(self._manifest["config"])
        self._labels = dict(self.config["config"].get("Labels") or {})
        self._layers_bytes = sum(layer["size"] for layer in self._manifest["layers"])

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
        return self._labels

    @property
    def layers_bytes(self) -> int:
        """The size of what a node pulls, in bytes."""
        return self._layers_bytes

    def files(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Read regular files of the image's file system.

        Args:
            wanted: whether a path, which has no leading slash, is to be read.

        Raises:
            Refused: a layer is damaged, or too large.
        """
        return self._layers().files(wanted)

    def privileged(self) -> list[str]:
        """Name the files that give who runs them the rights of another.

        Raises:
            Refused: a layer is damaged, or too large.
        """
        return self._layers().privileged()

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
        by_digest = {part["digest"]: part for part in parts}
        with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as tar:

            def add(path: str, size: int, file: IO[bytes]) -> None:
                entry = tarfile.TarInfo(path)
                entry.size, entry.mtime = size, epoch_s
                tar.addfile(entry, file)

            for path, content in (
                ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                ("index.json", json.dumps(index, sort_keys=True).encode()),
            ):
                add(path, len(content), io.BytesIO(content))
            for digest, part in sorted(by_digest.items()):
                with self._reading(), self._blob(part, BLOB_BYTES) as file:
                    add(f"blobs/{digest.replace(':', '/')}", part["size"], file)

    def _layers(self) -> Layers:
        return Layers(
            lambda layer: self._blob(layer, BLOB_BYTES), self._manifest["layers"], self._reading
        )

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
            return self._image(self._document(images[0]))
        return dict(images[0])

    def _document(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        with self._blob(descriptor, DOCUMENT_BYTES) as file:
            document: dict[str, Any] = json.load(file)
        return document

    def _blob(self, descriptor: dict[str, Any], max_bytes: int) -> IO[bytes]:
        """Open a blob that is what its descriptor says."""
        digest: str = descriptor["digest"]
        algorithm, _, expected = digest.partition(":")
        name = f"blobs/{algorithm}/{expected}"
        if name not in self._members:
            raise Refused(f"{self._path} is damaged: the blob {digest} is missing")
        file = self._open(name, max_bytes)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = self._members[name].size
        if (algorithm, found, size) != ("sha256", expected, descriptor["size"]):
            file.close()
            raise Refused(f"{self._path} is damaged: the blob {digest} is not what it should be")
        file.seek(0)
        return file

    def _open(self, name: str, max_bytes: int) -> IO[bytes]:
        member = self._members[name]
        if member.size > max_bytes:
            raise Refused(f"{name} in {self._path} has more than {max_bytes} bytes")
        file = self._tar.extractfile(member)
        if file is None:
            raise KeyError(name)
        return file

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say of whatever goes wrong in a reader that the archive is damaged."""
        try:
            yield
        except DAMAGE as error:
            kind = type(error).__name__
            raise Refused(f"{self._path} is damaged: {kind}: {error}") from error
