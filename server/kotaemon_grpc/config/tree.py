"""The settings with their meaning, defaults and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from kotaemon_grpc.transport.address import Address, parse_address

_MAX_INT32 = 2**31 - 1  # of channel arguments of gRPC, and of offsets in the contract


def _read_address(value: Any) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('an address is "host:port"')  # noqa: TRY004 - pydantic collects these
    return parse_address(value)


def _read_file(value: Any) -> Any:
    return None if value == "" else value


_Address = Annotated[Address, BeforeValidator(_read_address), PlainSerializer(str)]
_File = Annotated[
    Path | None,
    BeforeValidator(_read_file),
    PlainSerializer(lambda path: "" if path is None else str(path)),
]
_Secret = Annotated[
    SecretStr, PlainSerializer(lambda secret: "********" if secret.get_secret_value() else "")
]
_Seconds = Annotated[StrictFloat, Field(ge=0, le=3600, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Server(_Section):
    """The gRPC listeners."""

    listen: _Address = Field(
        default=Address("127.0.0.1", 50051),
        description="where calls are served; port 0 picks a free one",
    )
    health_listen: _Address = Field(
        default=Address("127.0.0.1", 50052),
        description="where health checking alone is served, in plaintext, for probes",
    )
    insecure: StrictBool = Field(
        default=False, description="serve calls in plaintext; only on a loopback address"
    )
    reflection: StrictBool = Field(default=True, description="describe the services to clients")
    max_message_bytes: StrictInt = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=_MAX_INT32,
        description="the largest message that is received",
    )
    max_concurrent_streams: StrictInt = Field(
        default=100, ge=1, le=_MAX_INT32, description="calls that one connection may have open"
    )
    shutdown_grace_s: _Seconds = Field(
        default=10.0, description="how long open calls may go on after a stop was asked for"
    )

    @model_validator(mode="after")
    def _plaintext_stays_here(self) -> Server:
        if self.insecure and not self.listen.is_loopback:
            raise ValueError(
                f"plaintext on {self.listen} would let anybody on the network read along; "
                "choose a loopback address or leave out insecure"
            )
        return self


class Operations(_Section):
    """HTTP for those who operate the server."""

    listen: _Address = Field(
        default=Address("127.0.0.1", 9464),
        description="where /metrics, /healthz and /readyz are served",
    )


class TLSFiles(NamedTuple):
    """The files that the listener uses."""

    certificate: Path
    key: Path
    client_ca: Path


class TLS(_Section):
    """Certificates. With no file named, those of the development PKI, which is kept up."""

    dir: Path = Field(default=Path("certs/dev"), description="where the development PKI lives")
    certificate: _File = Field(default=None, description="the server's certificate chain, PEM")
    key: _File = Field(default=None, description="its private key, PEM")
    client_ca: _File = Field(default=None, description="the CAs of clients' certificates, PEM")
    key_passphrase: _Secret = Field(
        default=SecretStr(""), description="of the key, if it is encrypted"
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


class Storage(_Section):
    """Where data lives."""

    data_dir: Path = Field(
        default=Path("var"), description="the directory of the store and its index"
    )


class Documents(_Section):
    """What is taken in."""

    max_document_bytes: StrictInt = Field(
        default=64 * 1024 * 1024,
        ge=1,
        le=_MAX_INT32,
        description="the largest document that is accepted",
    )
    import_paths: tuple[Path, ...] = Field(
        default=(), description="files and directories that are imported when the server starts"
    )


class Conversations(_Section):
    """What is kept of dialogues."""

    history_turns: StrictInt = Field(
        default=6, ge=0, le=1000, description="earlier turns that an answer takes into account"
    )
    retention_days: StrictInt = Field(
        default=90,
        ge=0,
        le=36500,
        description="days after which a conversation that rested is deleted; 0: never",
    )


class Log(_Section):
    """What is written to stdout."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="what is less important is not written"
    )
    format: Literal["json", "console"] = Field(
        default="json", description="json for machines, console for people"
    )


class Client(_Section):
    """How the verbs that call a server reach it. A file that is not named is that of `tls.dir`."""

    target: str = Field(
        default="127.0.0.1:50051", min_length=1, description="the server, as gRPC names it"
    )
    ca: _File = Field(default=None, description="the CAs of the server's certificate, PEM")
    certificate: _File = Field(default=None, description="the caller's certificate chain, PEM")
    key: _File = Field(default=None, description="its private key, PEM")
    insecure: StrictBool = Field(default=False, description="speak plaintext")
    timeout_s: StrictFloat = Field(
        default=60.0, gt=0, le=86400, allow_inf_nan=False, description="how long a call may take"
    )


class Config(_Section):
    """All settings."""

    server: Server = Server()
    operations: Operations = Operations()
    tls: TLS = TLS()
    storage: Storage = Storage()
    documents: Documents = Documents()
    conversations: Conversations = Conversations()
    log: Log = Log()
    client: Client = Client()

    def masked(self) -> dict[str, dict[str, Any]]:
        """Give all settings as TOML has them, secrets that are set as `********`."""
        return self.model_dump(mode="json")
