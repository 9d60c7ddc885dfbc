"""Where the client finds what TLS needs."""

from __future__ import annotations

import ssl
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
        """Read the files, and check them: core would only log what is wrong.

        Raises:
            ConfigurationError: one of them cannot be read or used.
        """
        credentials = grpc.ssl_channel_credentials(
            root_certificates=_read(self.ca),
            private_key=_read(self.key),
            certificate_chain=_read(self.certificate),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(self.ca)
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{self.ca} has no certificate that can be used; name the CA of the server"
            ) from error
        try:
            # An empty passphrase, so that nobody is asked for one: core takes none.
            context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as error:
            raise ConfigurationError(
                f"{self.certificate} and {self.key} are not a certificate and its unencrypted key; "
                "name two that belong together"
            ) from error
        return credentials


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
