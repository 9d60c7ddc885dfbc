"""Where the client finds what TLS needs, and how it notices that there is something new."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from kotaemon_grpc.client.errors import ConfigurationError
from kotaemon_grpc.client.files import path_of, stamp_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOOK_INTERVAL_S = 2.0
_PUT_OFF_S = 30.0


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files hold, all PEM; None for what there is no file for."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        """Make what a channel takes."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a client's TLS, all PEM. They may be replaced while a client runs.

    Args:
        ca: the certificates that sign servers; None for those that gRPC trusts.
        certificate: the client's own, with its chain, for mutual TLS.
        key: the certificate's private key; there are both or neither.

    Raises:
        ConfigurationError: one of them is no path.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        """Take text for a path, too."""
        for name in ("ca", "certificate", "key"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, path_of(given, name))

    @classmethod
    def in_directory(cls, directory: str | Path) -> TlsFiles:
        """Name the files as `kotaemon-grpc certs init` does."""
        directory = path_of(directory, "directory")
        return cls(directory / "ca.pem", directory / "client.pem", directory / "client-key.pem")

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files, and check them: core would only log what is wrong.

        Raises:
            ConfigurationError: one of them cannot be read or used.
        """
        return self.read().credentials()

    def read(self) -> TlsMaterial:
        """Read the files, and check that they work together.

        Raises:
            ConfigurationError: one of them cannot be read or used.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError(
                "a certificate needs its key, and a key its certificate; name both or neither"
            )
        material = TlsMaterial(_read(self.ca), _read(self.certificate), _read(self.key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"{self.ca} has no certificate that can be used; name the CA of the server"
            ) from error
        try:
            if self.certificate is not None:
                # An empty passphrase, so that nobody is asked for one: core takes none.
                context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, OSError) as error:
            raise ConfigurationError(
                f"{self.certificate} and {self.key} are not a certificate and its unencrypted key; "
                "name two that belong together"
            ) from error
        return material

    def stamp(self) -> tuple[object, ...]:
        """Return what differs after a file, or what a link points to, was replaced."""
        return tuple(_stamp(path) for path in (self.ca, self.certificate, self.key) if path)


class TlsWatch:
    """The material in use, and whether the files hold other.

    Args:
        files: read at once.
        clock: seconds that never go back.

    Raises:
        ConfigurationError: one of the files cannot be read or used.
    """

    def __init__(self, files: TlsFiles, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._clock = clock
        self._seen = files.stamp()
        self.material = files.read()
        self._look_at_s = clock() + _LOOK_INTERVAL_S
        self._doubt = ""  # what was wrong at the last look, if that was the first time

    def is_due(self) -> bool:
        """Tell whether to read the files again; it looks at them every two seconds at most."""
        if self._clock() < self._look_at_s:
            return False
        self._look_at_s = self._clock() + _LOOK_INTERVAL_S
        return self._files.stamp() != self._seen

    def read(self) -> TlsMaterial | None:
        """Read the files; None if they are being replaced, or hold what is in use.

        What is wrong is told the second time, as files are not all replaced at once.

        Raises:
            ConfigurationError: they have been wrong for two looks. It is told once.
        """
        stamp = self._files.stamp()
        try:
            material = self._files.read()
        except ConfigurationError as error:
            if self._doubt != str(error):
                self._doubt = str(error)
                return None
            self._seen = stamp
            raise
        self._doubt = ""
        if self._files.stamp() != stamp:
            return None
        self._seen = stamp
        return None if material == self.material else material

    def put_off(self) -> None:
        """Have the files read again, half a minute from now."""
        self._seen = ()
        self._look_at_s = self._clock() + _PUT_OFF_S


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        mend = "make it readable" if isinstance(error, PermissionError) else "mend it"
        raise ConfigurationError(
            f"cannot read {path} ({error.strerror}); {mend} or name another file"
        ) from error
    if b"-----BEGIN " not in content:
        raise ConfigurationError(f"{path} is not a PEM file")
    return content


def _stamp(path: Path) -> object:
    try:
        return stamp_of(path)
    except OSError as error:
        return error.errno
