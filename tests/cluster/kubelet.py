"""Does what the kubelet does with volumes: each is a directory on the node, bound into pods.

A Secret or a ConfigMap is a directory of links into another one, which is replaced as a whole, so
that a reader sees the old content or the new. The group of the pod may read it (`fsGroup`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chart.helm import Manifest

Content = dict[str, bytes]

DEFAULT_MODE = 0o644  # of the API, for Secrets and ConfigMaps
NAME_KEYS = {"secret": "secretName", "configMap": "name"}


@dataclass(frozen=True)
class _Mounted:
    kind: str
    name: str
    path: Path
    mode: int
    group: int


class Volumes:
    """The volumes of all pods of a node."""

    def __init__(self, directory: Path) -> None:
        """Begin with none.

        Args:
            directory: what pods mount goes below it.
        """
        self._directory = directory
        self._objects: dict[tuple[str, str], Content] = {}
        self._mounted: list[_Mounted] = []

    def put(self, kind: str, name: str, content: Content) -> None:
        """Keep a `secret` or a `configMap`, and bring it to where it is mounted already."""
        self._objects[kind, name] = content
        for each in self._mounted:
            if (each.kind, each.name) == (kind, name):
                _write(each.path, content, each.mode, each.group)

    def claim(self, name: str, files: Mapping[str, bytes] | None = None) -> Path:
        """Give the directory of a PersistentVolumeClaim, and fill it."""
        path = self._directory / "claims" / name
        path.mkdir(parents=True, exist_ok=True)
        for file, content in (files or {}).items():
            (path / file).write_bytes(content)
        return path

    def mount(self, pod: str, volume: Manifest, group: int) -> Path:
        """Give the directory of a volume of a pod.

        Args:
            pod: the pod's name.
            volume: an entry of `spec.volumes`.
            group: the pod's `fsGroup`.
        """
        (kind,) = volume.keys() - {"name"}
        source = volume[kind]
        if kind == "persistentVolumeClaim":
            return self.claim(source["claimName"])
        path = self._directory / pod / volume["name"]
        path.mkdir(parents=True)
        if kind == "emptyDir":
            os.chown(path, 0, group)
            path.chmod(0o2777)
            return path
        mounted = _Mounted(
            kind, source[NAME_KEYS[kind]], path, source.get("defaultMode", DEFAULT_MODE), group
        )
        os.chown(path, 0, group)
        _write(path, self._objects[kind, mounted.name], mounted.mode, group)
        self._mounted.append(mounted)
        return path


def _write(path: Path, content: Content, mode: int, group: int) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="..2026_", dir=path))
    os.chown(fresh, 0, group)
    fresh.chmod(0o2755)
    for name, text in content.items():
        (fresh / name).write_bytes(text)
        os.chown(fresh / name, 0, group)
        (fresh / name).chmod(mode | 0o440)
    data = path / "..data"
    old = path / data.readlink() if data.is_symlink() else None
    (path / "..data_tmp").symlink_to(fresh.name)
    (path / "..data_tmp").rename(data)
    for name in content:
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"..data/{name}")
    if old is not None:
        shutil.rmtree(old)
