"""Small images as OCI archives, with the metadata of packages and nothing that runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MEDIA = "application/vnd.oci.image"
SITE = "opt/kotaemon-grpc/lib/python3.11/site-packages"
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: zlib

Files: *
Copyright: 1995-2022 Jean-loup Gailly
License: Zlib

Files: debian/*
Copyright: 2000 Somebody
License: GPL-2+ or Expat

License: GPL-2+
 The text of it.
"""
CONTROLS = {
    "zlib1g": "Package: zlib1g\nSource: zlib\nVersion: 1:1.2.13.dfsg-1\nArchitecture: amd64\n"
    "Depends: libc6 (>= 2.14)\nHomepage: http://zlib.net/\n"
    "Description: compression library - runtime\n More of it.\n",
    "libc6": "Package: libc6\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u1\n"
    "Architecture: amd64\nDepends: libgcc-s1, libcrypt1\nDescription: GNU C Library\n",
}


def write_image(target: Path, labels: dict[str, str], locked: dict[str, str]) -> None:
    """Write an image with Python packages, as name to version, and two of Debian."""
    first = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "usr/share/doc/zlib1g/copyright": COPYRIGHT,
        **{f"var/lib/dpkg/status.d/{name}": text for name, text in CONTROLS.items()},
        "var/lib/dpkg/status.d/zlib1g.md5sums": "0  usr/lib/libz.so.1\n",
        # The next layer takes it away.
        f"{SITE}/pip-23.0.dist-info/METADATA": metadata("pip", "23.0"),
    }
    second = {
        f"{SITE}/.wh.pip-23.0.dist-info": "",
        **{
            f"{SITE}/{name}-{version}.dist-info/METADATA": metadata(name, version)
            for name, version in locked.items()
        },
        f"{SITE}/kotaemon_grpc.dist-info/METADATA": metadata(
            "kotaemon-grpc",
            labels.get("org.opencontainers.image.version", "0"),
            "License-Expression: Apache-2.0\n",
            *(f"Requires-Dist: {name}; extra == 'server'\n" for name in locked),
            "Requires-Dist: absent; extra == 'other'\n",
        ),
    }
    write_archive(target, labels, [first, second])


def metadata(name: str, version: str, *more: str) -> str:
    """Write the metadata of a package."""
    classifier = "Classifier: License :: OSI Approved :: BSD License\n"
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{classifier}{''.join(more)}\n"


def write_archive(target: Path, labels: dict[str, str], layers: list[dict[str, str]]) -> None:
    """Write an archive of layers, which are texts by path."""
    blobs: dict[str, bytes] = {}

    def descriptor(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    plain = [tar_of({path: text.encode() for path, text in layer.items()}) for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels, "User": "10001:10001"},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in plain],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": descriptor("config.v1+json", json.dumps(config).encode()),
        "layers": [descriptor("layer.v1.tar+gzip", gzip.compress(each, mtime=0)) for each in plain],
    }
    image = descriptor("manifest.v1+json", json.dumps(manifest).encode())
    index = {"schemaVersion": 2, "manifests": [image]}
    target.write_bytes(
        tar_of(
            {
                "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                "index.json": json.dumps(index).encode(),
                **blobs,
            }
        )
    )


def tar_of(files: dict[str, bytes]) -> bytes:
    """Write files into an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
