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

    from tests.release.project import Project

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


# How the Dockerfile has it start.
START = {
    "User": "10001:10001",
    "WorkingDir": "/var/lib/kotaemon-grpc",
    "Entrypoint": ["kotaemon-grpc"],
    "Cmd": ["serve", "--config", "/etc/kotaemon-grpc/config.toml"],
    "Env": [
        "PATH=/opt/kotaemon-grpc/bin",
        "LANG=C.UTF-8",
        "MALLOC_ARENA_MAX=2",
        "PYTHONDONTWRITEBYTECODE=1",
        "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    ],
}
COMMAND = r"""#!/opt/kotaemon-grpc/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from kotaemon_grpc.__main__ import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])
    sys.exit(main())
"""

Layer = dict[str, str | bytes | tarfile.TarInfo]


def write_image(
    project: Project,
    *,
    labels: dict[str, str] | None = None,
    locked: dict[str, str] | None = None,
    start: dict[str, Any] | None = None,
    more: Layer | None = None,
) -> None:
    """Write an image of a commit, with Python packages and two of Debian.

    Args:
        project: has the commit, and says where the image goes.
        labels: of the image; None for the right ones.
        locked: the packages, as name to version; None for the right ones.
        start: what its configuration has otherwise.
        more: a last layer.
    """
    labels = project.labels() if labels is None else labels
    locked = project.locked() if locked is None else locked
    first: Layer = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "usr/share/doc/zlib1g/copyright": COPYRIGHT,
        **{f"var/lib/dpkg/status.d/{name}": text for name, text in CONTROLS.items()},
        "var/lib/dpkg/status.d/zlib1g.md5sums": "0  usr/lib/libz.so.1\n",
        # The next layer takes it away.
        f"{SITE}/pip-23.0.dist-info/METADATA": metadata("pip", "23.0"),
    }
    server = project.root / "server" / "kotaemon_grpc"
    second: Layer = {
        **{
            f"{SITE}/kotaemon_grpc/{path.relative_to(server)}": path.read_bytes()
            for path in sorted(server.rglob("*"))
            if path.is_file()
        },
        "opt/kotaemon-grpc/bin/kotaemon-grpc": COMMAND,
        "etc/kotaemon-grpc/config.toml": (project.root / "scripts" / "image.toml").read_bytes(),
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
    layers = [first, second, *([more] if more else [])]
    write_archive(project.image, {"Labels": labels, **START, **(start or {})}, layers)


def metadata(name: str, version: str, *more: str) -> str:
    """Write the metadata of a package."""
    classifier = "Classifier: License :: OSI Approved :: BSD License\n"
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{classifier}{''.join(more)}\n"


def write_archive(target: Path, config: dict[str, Any], layers: list[Layer | bytes]) -> None:
    """Write an archive of layers: contents, or entries without such, by path; or raw bytes."""
    blobs: dict[str, bytes] = {}

    def descriptor(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    plain = [each if isinstance(each, bytes) else tar_of(each) for each in layers]
    about = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in plain],
        },
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": descriptor("config.v1+json", json.dumps(about).encode()),
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


def tar_of(files: Layer) -> bytes:
    """Write files into an archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            if isinstance(content, str):
                content = content.encode()  # noqa: PLW2901 - the same in bytes
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
