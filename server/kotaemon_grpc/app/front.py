"""The listeners: a gRPC server each, around the same services, with its own credentials.

Core does not tell a handler which port a call came by. A server each does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from kotaemon_grpc.api import v1
from kotaemon_grpc.app.access import NO_CREDENTIALS
from kotaemon_grpc.auth.authenticator import anybody
from kotaemon_grpc.config.listeners import asks_for_certificates
from kotaemon_grpc.pipeline.metadata import METADATA
from kotaemon_grpc.pipeline.native import native_handlers
from kotaemon_grpc.pipeline.registration import service_handlers
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.transport import channelz, pki, reflection, tls
from kotaemon_grpc.transport.health import SERVICE_NAME as HEALTH
from kotaemon_grpc.transport.listener import Bounds, bind, server_options
from kotaemon_grpc.transport.rotation import Rotation
from kotaemon_grpc.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import grpc
    from cryptography import x509
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.app.backend import Service
    from kotaemon_grpc.app.reload_report import ReloadReport
    from kotaemon_grpc.auth.authenticator import Trusts
    from kotaemon_grpc.auth.watched_files import WatchedFiles
    from kotaemon_grpc.config import Config, TLSFiles
    from kotaemon_grpc.pipeline.call import Method
    from kotaemon_grpc.pipeline.seam import Seam
    from kotaemon_grpc.transport.address import Address
    from kotaemon_grpc.transport.health import HealthReporter
    from kotaemon_grpc.transport.tls import Material


@dataclass(frozen=True, slots=True)
class Plan:
    """A listener as the settings want it; `tls` is None for plaintext."""

    listen: Address
    credentials: tuple[str, ...]
    min_tls: str
    tls: TLSFiles | None
    flag: str


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that is bound: the plan, the address it has got, its files of TLS if any."""

    plan: Plan
    server: Server
    address: Address
    files: WatchedFiles[Material] | None

    @property
    def certificates(self) -> Mapping[Path, Sequence[x509.Certificate]]:
        """The certificates in use, by file."""
        return self.files.value.certificates if self.files else {}


def plans(config: Config) -> Iterator[Plan]:
    """Read the listeners from the settings, the main one first."""
    server = config.server
    if server.insecure:
        yield Plan(server.listen, NO_CREDENTIALS, "1.2", None, "--listen")
    else:
        yield Plan(
            server.listen, server.credentials, config.tls.min_version, config.tls.files, "--listen"
        )
    for listener in server.listeners:
        yield Plan(
            listener.listen,
            listener.credentials,
            listener.min_version or config.tls.min_version,
            config.tls.files_of(listener),
            "server.listeners",
        )


async def bind_all(
    config: Config,
    services: Sequence[Service],
    health: HealthReporter,
    *,
    seam_for: Callable[[Plan, Trusts], Seam],
    report: ReloadReport,
    on_change: Callable[[Material], object],
    log: FilteringBoundLogger,
) -> list[Listening]:
    """Make and bind all listeners; they are not started.

    Args:
        config: the settings.
        services: what all of them serve.
        health: tells how the server is.
        seam_for: makes the pipeline of a listener, given what tells whom it trusts.
        report: is told of files of TLS that are read again.
        on_change: takes what such files hold, now and each time that they have changed.
        log: of the server.

    Raises:
        OperatorError: a certificate cannot be used, or an address cannot be had.
    """
    if config.tls.is_development and any(plan.tls for plan in plans(config)):
        for change in await asyncio.to_thread(pki.ensure, config.tls.dir):
            log.info(names.EVENT_CERTIFICATE_ISSUED, **{names.KEY_PATH: str(change.path)})
    bound: list[Listening] = []
    watched: dict[tuple[Path, ...], WatchedFiles[Material]] = {}
    for plan in plans(config):
        trusts: Trusts = anybody
        credentials, files = None, None
        if plan.tls is not None:
            paths = _paths(plan, plan.tls)
            files = watched.get(paths)  # listeners with the same files have them read once
            if files is None:
                load = partial(_load, config, paths)
                files = watched[paths] = await asyncio.to_thread(
                    report.watch, names.RELOAD_CERTIFICATES, paths, load, on_change
                )
                on_change(files.value)
            rotation = Rotation(partial(_held_by, files))
            trusts, credentials = rotation.trusts, rotation.credentials()
        server = _server(config, services, health, seam_for(plan, trusts))
        address = bind(server, plan.listen, credentials, flag=plan.flag)
        bound.append(Listening(plan, server, address, files))
    return bound


def _paths(plan: Plan, files: TLSFiles) -> tuple[Path, ...]:
    """Choose the files that a listener needs: certificate, key, and CAs if it asks for clients'."""
    return files if asks_for_certificates(plan.credentials) else files[:2]


def _load(config: Config, paths: tuple[Path, ...]) -> Material:
    certificate, key, *cas = paths
    # A passphrase is of the key of [tls]; a listener's own key has none.
    own = key != config.tls.files.key
    is_development = config.tls.is_development and {*paths} <= {*config.tls.files}
    return tls.load(
        certificate,
        key,
        cas[0] if cas else None,
        passphrase="" if own else config.tls.key_passphrase.get_secret_value(),
        advice=tls.DEVELOPMENT if is_development else tls.INSTALLED,
    )


def _held_by(files: WatchedFiles[Material]) -> Material:
    return files.value


def _server(
    config: Config, services: Iterable[Service], health: HealthReporter, seam: Seam
) -> Server:
    """Make a server with everything that it serves."""
    handlers: dict[Method, grpc.RpcMethodHandler] = {}
    for service in services:
        handlers |= service_handlers(
            seam,
            service.descriptor,
            service.servicer,
            failure_messages=service.failure_messages,
            name=service.name,
        )
    served = [*(service.name for service in services), HEALTH]
    if config.server.channelz:
        served.append(channelz.SERVICE_NAME)
        handlers |= native_handlers(seam, channelz.SERVICE_NAME, channelz.handlers())
    if config.server.reflection:
        aliases = {v1.UNVERSIONED_NAME: v1.SERVICE.full_name}
        for name, methods in reflection.handlers(served, aliases).items():
            handlers |= native_handlers(seam, name, methods)
    by_path = {f"/{method.path}": handler for method, handler in handlers.items()}
    # Health checking passes no pipeline: it is open to all, and never shed.
    checks = health.handlers()
    return Server(by_path | checks, _options(config), on_call=METADATA.set, lasting=checks)


def longest_call_s(config: Config) -> float:
    """Return how long a call may last that begins as its connection is asked to go."""
    return max(config.limits.max_stream_s, config.limits.max_deadline_s)


def _options(config: Config) -> list[tuple[str, int]]:
    return server_options(
        Bounds(
            max_message_bytes=config.server.max_message_bytes,
            max_concurrent_streams=config.server.max_concurrent_streams,
            max_connections=config.server.max_connections,
            max_metadata_bytes=config.server.max_metadata_bytes,
            max_idle_s=config.server.max_connection_idle_s,
            max_age_s=config.server.max_connection_age_s,
            max_age_grace_s=longest_call_s(config),
        )
    )
