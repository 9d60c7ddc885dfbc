"""Where the server listens, with which certificates, and what it takes as proof of who calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from kotaemon_grpc.auth.identity import CERTIFICATE, Credential, kinds
from kotaemon_grpc.config.fields import (
    MAX_INT32,
    NOT_EMPTY,
    Count,
    File,
    GraceSeconds,
    ListenAddress,
    Seconds,
    Secret,
    Section,
    TLSVersion,
)
from kotaemon_grpc.transport.address import Address


def asks_for_certificates(credentials: tuple[str, ...]) -> bool:
    """Tell whether a listener asks its clients for certificates."""
    return CERTIFICATE in kinds(credentials)


def _check_credentials(credentials: tuple[Credential, ...]) -> tuple[Credential, ...]:
    if len({asks_for_certificates((each,)) for each in credentials}) > 1:
        raise ValueError(
            "a listener either asks every client for a certificate or none: give credentials "
            "with and without a certificate a listener each"
        )
    return credentials


_Credentials = Annotated[tuple[Credential, ...], NOT_EMPTY, AfterValidator(_check_credentials)]


class Listener(Section):
    """One more listener. A file that is not named is that of [tls]."""

    listen: ListenAddress
    credentials: _Credentials = ("certificate",)
    certificate: File = None
    key: File = None
    client_ca: File = None
    min_version: TLSVersion | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Listener:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key are named together")
        return self


class Server(Section):
    """The gRPC listeners."""

    listen: ListenAddress = Field(
        default=Address("127.0.0.1", 50051),
        description="where calls are served; port 0 picks a free one",
    )
    credentials: _Credentials = Field(
        default=("certificate",),
        description="what is taken there as proof of who calls, any one of them",
    )
    listeners: tuple[Listener, ...] = Field(
        default=(), description="further listeners with credentials of their own"
    )
    health_listen: ListenAddress = Field(
        default=Address("127.0.0.1", 50052),
        description="where health checking alone is served, in plaintext, for probes",
    )
    insecure: StrictBool = Field(
        default=False,
        description="serve anybody as an administrator in plaintext; only on a loopback address",
    )
    reflection: StrictBool = Field(
        default=True, description="describe the services to clients whose role allows it"
    )
    channelz: StrictBool = Field(
        default=True, description="describe the connections to clients whose role allows it"
    )
    max_message_bytes: StrictInt = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=MAX_INT32,
        description="the largest message that is received",
    )
    max_metadata_bytes: StrictInt = Field(
        default=16 * 1024,
        ge=4 * 1024,
        le=MAX_INT32,
        description="the most metadata that a call may bring along",
    )
    max_concurrent_streams: Count = Field(
        default=100, description="calls that one connection may have open"
    )
    max_connections: Count = Field(
        default=1000, description="connections that one listener may have open"
    )
    max_connection_idle_s: Seconds = Field(
        default=300.0, description="how long a connection may have no call open"
    )
    max_connection_age_s: Seconds = Field(
        default=3600.0, description="after what time a client is asked to connect anew"
    )
    shutdown_delay_s: StrictFloat = Field(
        default=3.0,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="how long calls are still taken after a stop was asked for and probes know",
    )
    shutdown_grace_s: GraceSeconds = Field(
        default=10.0, description="how long open calls may go on when no new ones are taken"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Server:
        taken = set()
        for each in (self.listen, *(more.listen for more in self.listeners), self.health_listen):
            place = (each.host.lower(), each.port)
            if each.port and place in taken:
                raise ValueError(f"two listeners are at {each}; choose another port for one")
            taken.add(place)
        if self.insecure and not self.listen.is_loopback:
            raise ValueError(
                f"plaintext on {self.listen} would let anybody on the network read along; "
                "choose a loopback address or leave out insecure"
            )
        return self


class Operations(Section):
    """HTTP for those who operate the server."""

    listen: ListenAddress = Field(
        default=Address("127.0.0.1", 9464),
        description="where the pages for operators are served, /metrics and others",
    )
    certificate: File = Field(
        default=None, description="the chain to serve them with over TLS, PEM; empty: plaintext"
    )
    key: File = Field(default=None, description="its private key, PEM")
    client_ca: File = Field(
        default=None, description="the CAs of clients' certificates, PEM; empty: none are asked for"
    )

    @model_validator(mode="after")
    def _pair(self) -> Operations:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key are named together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("clients are asked for certificates over TLS alone")
        return self


class TLSFiles(NamedTuple):
    """The files that a listener uses."""

    certificate: Path
    key: Path
    client_ca: Path


class TLS(Section):
    """Certificates. With no file named, those of the development PKI, which is kept up."""

    dir: Path = Field(default=Path("certs/dev"), description="where the development PKI lives")
    certificate: File = Field(default=None, description="the server's certificate chain, PEM")
    key: File = Field(default=None, description="its private key, PEM")
    client_ca: File = Field(default=None, description="the CAs of clients' certificates, PEM")
    key_passphrase: Secret = Field(
        default=SecretStr(""), description="of the key, if it is encrypted"
    )

    min_version: TLSVersion = Field(
        default="1.2", description="the least version of TLS, 1.2 or 1.3"
    )

    @model_validator(mode="after")
    def _pair(self) -> TLS:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ValueError(f'"tls.{given}" needs "tls.{missing}" beside it')
        return self

    @property
    def is_development(self) -> bool:
        """Whether the development PKI is used, and so to be created and renewed on start."""
        return self.certificate is None and self.key is None and self.client_ca is None

    @property
    def files(self) -> TLSFiles:
        """The files to use: those named, else those of `dir`."""
        return TLSFiles(
            self.certificate or self.dir / "server.pem",
            self.key or self.dir / "server-key.pem",
            self.client_ca or self.dir / "ca.pem",
        )

    def files_of(self, listener: Listener) -> TLSFiles:
        """The files of one more listener: those that it names, else these."""
        own = self.files
        return TLSFiles(
            listener.certificate or own.certificate,
            listener.key or own.key,
            listener.client_ca or own.client_ca,
        )
