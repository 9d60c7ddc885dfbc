"""The settings with their meaning, defaults and limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from kotaemon_grpc.config.access import Identity, Policy
from kotaemon_grpc.config.fields import MAX_INT32, File, Section
from kotaemon_grpc.config.limits import Limits, Log, Traces
from kotaemon_grpc.config.listeners import TLS, Operations, Server


class Storage(Section):
    """Where data lives."""

    data_dir: Path = Field(
        default=Path("var"), description="the directory of the store and its index"
    )


class Documents(Section):
    """What is taken in."""

    max_document_bytes: StrictInt = Field(
        default=64 * 1024 * 1024,
        ge=1,
        le=MAX_INT32,
        description="the largest document that is accepted",
    )
    import_paths: tuple[Path, ...] = Field(
        default=(), description="files and directories that are imported when the server starts"
    )


class Conversations(Section):
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


class Requests(Section):
    """What is remembered of requests that have a name."""

    window_hours: StrictInt = Field(
        default=24,
        ge=1,
        le=8760,
        description="hours for which repeating a request with its request_id does nothing twice",
    )
    max_count: StrictInt = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="requests that are remembered; the oldest beyond them are forgotten early",
    )


class Client(Section):
    """How the verbs that call a server reach it. A file that is not named is that of `tls.dir`."""

    target: str = Field(
        default="127.0.0.1:50051", min_length=1, description="the server, as gRPC names it"
    )
    ca: File = Field(default=None, description="the CAs of the server's certificate, PEM")
    certificate: File = Field(default=None, description="the caller's certificate chain, PEM")
    key: File = Field(default=None, description="its private key, PEM")
    token_file: File = Field(default=None, description="a file with a bearer token to show")
    api_key_file: File = Field(default=None, description="a file with an API key to show")
    insecure: StrictBool = Field(default=False, description="speak plaintext")
    timeout_s: StrictFloat = Field(
        default=60.0, gt=0, le=86400, allow_inf_nan=False, description="how long a call may take"
    )


class Config(Section):
    """All settings."""

    server: Server = Server()
    operations: Operations = Operations()
    tls: TLS = TLS()
    identity: Identity = Identity()
    policy: Policy = Policy()
    limits: Limits = Limits()
    storage: Storage = Storage()
    documents: Documents = Documents()
    conversations: Conversations = Conversations()
    requests: Requests = Requests()
    log: Log = Log()
    traces: Traces = Traces()
    client: Client = Client()

    def masked(self) -> dict[str, dict[str, Any]]:
        """Give all settings as TOML has them, secrets that are set as `********`."""
        return self.model_dump(mode="json")
