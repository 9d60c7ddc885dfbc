"""The listeners: a gRPC server each, around the same services, with its own credentials.

Core does not tell a handler which port a call came by. A server each does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kotaemon_grpc.api import v1
from kotaemon_grpc.app.access import NO_CREDENTIALS
from kotaemon_grpc.config.listeners import asks_for_certificates
from kotaemon_grpc.pipeline.metadata import METADATA
from kotaemon_grpc.pipeline.native import native_handlers
from kotaemon_grpc.pipeline.registration import service_handlers
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.transport import channelz, pki, reflection, tls
from kotaemon_grpc.transport.health import SERVICE_NAME as HEALTH
from kotaemon_grpc.transport.listener import Bounds, bind, server_options
from kotaemon_grpc.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import grpc
    from cryptography import x509
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.app.backend import Service
    from kotaemon_grpc.config import Config, TLSFiles
    from kotaemon_grpc.pipeline.call import Method
    from kotaemon_grpc.pipeline.seam import Seam
    from kotaemon_grpc.telemetry.metrics import Metrics
    from kotaemon_grpc.transport.address import Address
    from kotaemon_grpc.transport.health import HealthReporter


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
    """A server that is bound: the plan, the address it has got, its certificates by file."""

    plan: Plan
    server: grpc.aio.Server
    address: Address
    certificates: Mapping[Path, Sequence[x509.Certificate]]


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
    seam_for: Callable[[Plan], Seam],
    metrics: Metrics,
    log: FilteringBoundLogger,
) -> list[Listening]:
    """Make and bind all listeners; they are not started.

    Raises:
        OperatorError: a certificate cannot be used, or an address cannot be had.
    """
    if config.tls.is_development and any(plan.tls for plan in plans(config)):
        for change in await asyncio.to_thread(pki.ensure, config.tls.dir):
            log.info(names.EVENT_CERTIFICATE_ISSUED, **{names.KEY_PATH: str(change.path)})
    bound = []
    for plan in plans(config):
        material = await asyncio.to_thread(_material, config, plan)
        for path, expires in material.expiries.items() if material else ():
            metrics.set_certificate_expiry(str(path), expires)
        server = _server(config, services, health, seam_for(plan))
        credentials = tls.server_credentials(material) if material else None
        address = bind(server, plan.listen, credentials, flag=plan.flag)
        bound.append(Listening(plan, server, address, material.certificates if material else {}))
    return bound


def _material(config: Config, plan: Plan) -> tls.Material | None:
    if plan.tls is None:
        return None
    # A passphrase is of the key of [tls]; a listener's own key has none.
    own = plan.tls.key != config.tls.files.key
    return tls.load(
        plan.tls.certificate,
        plan.tls.key,
        plan.tls.client_ca if asks_for_certificates(plan.credentials) else None,
        passphrase="" if own else config.tls.key_passphrase.get_secret_value(),
    )


def _server(
    config: Config, services: Iterable[Service], health: HealthReporter, seam: Seam
) -> grpc.aio.Server:
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
    return Server(by_path | health.handlers(), _options(config), on_call=METADATA.set)


def _options(config: Config) -> list[tuple[str, int]]:
    return server_options(
        Bounds(
            max_message_bytes=config.server.max_message_bytes,
            max_concurrent_streams=config.server.max_concurrent_streams,
            max_connections=config.server.max_connections,
            max_metadata_bytes=config.server.max_metadata_bytes,
            max_idle_s=config.server.max_connection_idle_s,
            max_age_s=config.server.max_connection_age_s,
            # So long may a call last that begins as its connection is asked to go.
            max_age_grace_s=config.limits.max_stream_s,
        )
    )
