"""CAs, what they issue, and files that are replaced as Kubernetes replaces a Secret."""

from __future__ import annotations

import datetime as dt
import itertools
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kotaemon_grpc.client import TlsFiles
from kotaemon_grpc.transport.certificate import Subject, Usage, sign_ca, sign_leaf, utc_now

if TYPE_CHECKING:
    from pathlib import Path

_LIFE = dt.timedelta(days=2)  # also a clock that jumps is within it
_numbers = itertools.count(1)


class Authority:
    """A CA with a name and a key of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = f"fault tests CA {next(_numbers)}"
        self._certificate = sign_ca(self._key, name, _LIFE, utc_now())
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, usage: Usage) -> dict[str, bytes]:
        """Issue a certificate with a new key, as the files of a Secret."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = utc_now()
        # A caller is known by the first name that its certificate has: each by its own.
        sans = ("localhost", "127.0.0.1") if usage is Usage.SERVER else ()
        subject = Subject(name, sans=sans, usages=(usage,))
        leaf = sign_leaf(
            subject, key.public_key(), self._certificate, self._key, (now, now + _LIFE)
        )
        return {
            "tls.crt": leaf.public_bytes(serialization.Encoding.PEM),
            "tls.key": key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        }


class Secret:
    """A directory whose files change all at once: each is a link through `..data`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.files: dict[str, bytes] = {}

    @property
    def tls(self) -> TlsFiles:
        """What a client of the project takes."""
        return TlsFiles(self.path("ca.crt"), self.path("tls.crt"), self.path("tls.key"))

    def path(self, name: str) -> Path:
        return self.directory / name

    def replace(self, files: dict[str, bytes]) -> None:
        """Replace some files; the others stay as they are."""
        self.files |= files
        version = self.directory / f"..{next(_numbers)}"
        version.mkdir()
        for name, content in self.files.items():
            file = version / name
            file.write_bytes(content)
            file.chmod(0o600)
            if not self.path(name).is_symlink():
                self.path(name).symlink_to(f"..data/{name}")
        link = self.directory / "..new"
        link.symlink_to(version.name)
        os.replace(link, self.directory / "..data")  # noqa: PTH105 - a link, not where it leads
