"""What is there for those who ask how the server is: whether it serves, and its pages."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from kotaemon_grpc.app.certificates import tell_expiries
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.transport.health import HealthReporter, HealthServer
from kotaemon_grpc.transport.operations import Operations, server_tls

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from kotaemon_grpc.app.facts import ServerFacts
    from kotaemon_grpc.app.reload_report import ReloadReport
    from kotaemon_grpc.auth.watched_files import WatchedFiles
    from kotaemon_grpc.config import Config
    from kotaemon_grpc.stores.sqlite.store import SqliteStore
    from kotaemon_grpc.telemetry.metrics import Metrics
    from kotaemon_grpc.transport.operations import ServerTLS

_STARTING = "starting"
_DRAINING = "draining"
_VANISHED = "the data directory has vanished: put it back and start the server again"


class Readiness:
    """Why the server is not ready, if it is not."""

    def __init__(self, store: SqliteStore) -> None:
        """Begin as one that starts; the store has to be there."""
        self.not_serving_because = _STARTING
        self.is_draining = False
        self.checks = {
            "serving": lambda: _DRAINING if self.is_draining else self.not_serving_because,
            "store": lambda: "" if store.is_there() else _VANISHED,
        }

    def drain(self) -> None:
        """Say that the server drains, whatever is said later."""
        self.is_draining = True


async def open_to_probes(
    config: Config,
    opened: AsyncExitStack,
    facts: ServerFacts,
    *,
    metrics: Metrics,
    readiness: Readiness,
    report: ReloadReport,
) -> tuple[HealthReporter, dict[str, str]]:
    """Serve those who ask how the server is, before it serves; return where."""

    def use(tls: ServerTLS) -> None:
        operations.use_tls(tls.context)
        tell_expiries(metrics, tls.material)

    facts.operations_files = files = await _operations_files(config, report, use)
    operations = Operations(
        config.operations.listen,
        metrics.registry,
        readiness.checks,
        describe=facts,
        tls=None if files is None else files.value.context,
    )
    if files is not None:
        tell_expiries(metrics, files.value.material)
    operations_address = await operations.start()
    opened.push_async_callback(operations.stop)
    health = HealthReporter()
    health_server = HealthServer(config.server.health_listen, health)
    health_address = await health_server.start()
    opened.push_async_callback(health_server.stop)
    return health, {
        names.KEY_HEALTH_ADDRESS: str(health_address),
        names.KEY_OPERATIONS_ADDRESS: str(operations_address),
    }


async def _operations_files(
    config: Config, report: ReloadReport, on_change: Callable[[ServerTLS], object]
) -> WatchedFiles[ServerTLS] | None:
    """Read the files of the operations port, to be read again; None: it serves plaintext.

    Raises:
        OperatorError: they cannot be used.
    """
    operations = config.operations
    if operations.certificate is None or operations.key is None:
        return None
    files = (operations.certificate, operations.key, operations.client_ca)
    return await asyncio.to_thread(
        report.watch,
        names.RELOAD_CERTIFICATES,
        [each for each in files if each is not None],
        partial(server_tls, *files),
        on_change,
    )
