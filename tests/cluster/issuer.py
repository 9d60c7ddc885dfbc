"""Does what cert-manager does: makes the Secrets that rendered Certificates ask for."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from kotaemon_grpc.client import TlsFiles
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject, Usage

if TYPE_CHECKING:
    from tests.chart.helm import Manifest

USAGES = {"server auth": Usage.SERVER, "client auth": Usage.CLIENT}
DAYS = 30  # more than the alert for certificates that expire soon waits for


class Issuer:
    """A CA of its own."""

    def __init__(self, directory: Path) -> None:
        """Make it.

        Args:
            directory: where it keeps its files.
        """
        self._directory = directory
        pki.ensure(directory)

    @property
    def ca(self) -> Path:
        """Its certificate."""
        return self._directory / "ca.pem"

    def secret(self, certificate: Manifest) -> dict[str, bytes]:
        """Issue what a Certificate asks for, with a new key each time."""
        spec = certificate["spec"]
        name = certificate["metadata"]["name"]
        (spiffe,) = spec.get("uris", [""])
        subject = Subject(
            name,
            sans=tuple(spec.get("dnsNames", ())),
            spiffe=spiffe,
            usages=[usage for text, usage in USAGES.items() if text in spec["usages"]],
        )
        out = Path(tempfile.mkdtemp(dir=self._directory))
        issued, key = pki.issue(self._directory, name, subject, days=DAYS, out=out)
        return {
            "tls.crt": issued.read_bytes(),
            "tls.key": key.read_bytes(),
            "ca.crt": self.ca.read_bytes(),
        }


def tls_files(secret: dict[str, bytes], directory: Path) -> TlsFiles:
    """Write a client's Secret to files, for a client that is no pod."""
    directory.mkdir()
    for name, content in secret.items():
        (directory / name).write_bytes(content)
    return TlsFiles(directory / "ca.crt", directory / "tls.crt", directory / "tls.key")


def secret_manifest(name: str, content: dict[str, bytes]) -> Manifest:
    """Write a Secret as cert-manager does."""
    encoded = {key: base64.b64encode(value).decode() for key, value in content.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "data": encoded,
    }
