"""Where the client finds what TLS needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from kotaemon_grpc.client.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a mutual TLS client, all PEM.

    Args:
        ca: the certificates that sign servers.
        certificate: the client's own, with its chain.
        key: the certificate's private key.
    """

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_directory(cls, directory: str | Path) -> TlsFiles:
        """Name the files as `kotaemon-grpc certs init` does."""
        directory = Path(directory)
        return cls(directory / "ca.pem", directory / "client.pem", directory / "client-key.pem")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            ConfigurationError: one of them cannot be read.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}); "
            'make development certificates with "kotaemon-grpc certs init" or name your own'
        ) from error
    if b"-----BEGIN " not in content:
        raise ConfigurationError(f"{path} is not a PEM file")
    return content
