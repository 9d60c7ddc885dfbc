"""The life of a server: put together, served until a signal comes, drained."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from kotaemon_grpc.app.access import Access, policy_of
from kotaemon_grpc.app.backend import open_backend
from kotaemon_grpc.app.facts import ServerFacts
from kotaemon_grpc.app.front import bind_all
from kotaemon_grpc.app.seams import Seams
from kotaemon_grpc.app.upkeep import import_at_start, purge_hourly, until_ended
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.loop_lag import watch_loop_lag
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.telemetry.otlp import Receiver, open_exporter
from kotaemon_grpc.telemetry.tracing import Tracing
from kotaemon_grpc.transport.certificate import load_all
from kotaemon_grpc.transport.health import HealthReporter, HealthServer
from kotaemon_grpc.transport.operations import Operations, server_context
from kotaemon_grpc.transport.shutdown import StopSignals

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.app.front import Listening
    from kotaemon_grpc.config import Config
    from kotaemon_grpc.stores.sqlite.store import SqliteStore
    from kotaemon_grpc.telemetry.logs import LoggerFactory

_STARTING = "starting"
_DRAINING = "draining"
_VANISHED = "the data directory has vanished: put it back and start the server again"
_FLUSH_S = 1.0


class _Readiness:
    """Why the server is not ready, if it is not."""

    def __init__(self, store: SqliteStore) -> None:
        self.not_serving_because = _STARTING
        self.checks = {
            "serving": lambda: self.not_serving_because,
            "store": lambda: "" if store.is_there() else _VANISHED,
        }


async def serve(config: Config, logger: LoggerFactory, *, dropped_lines: Callable[[], int]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        config: the settings.
        logger: makes the logger of a part of the server.
        dropped_lines: tells how many lines of the log were lost.

    Raises:
        OperatorError: the server cannot start, or has ended by itself.
    """
    log = logger("server")
    policy = policy_of(config)
    async with AsyncExitStack() as opened:
        metrics = Metrics(CollectorRegistry())
        metrics.set_build_info(version("kotaemon-grpc"))
        metrics.ask_log(dropped_lines)
        facts = ServerFacts(config)
        tracing = tracing_of(config, opened, metrics)
        facts.access = access = Access(config, _reload_report(metrics, log))
        await access.load()
        seams = Seams(config, policy, access, metrics=metrics, tracing=tracing, logger=logger)
        facts.backend = backend = await open_backend(config, opened, metrics, log)
        signals = await opened.enter_async_context(StopSignals())

        readiness = _Readiness(backend.store)
        health, probed = await _open_to_probes(config, opened, facts, metrics, readiness)
        facts.listening = listening = await bind_all(
            config, backend.services, health, seam_for=seams.seam_for, metrics=metrics, log=log
        )
        if await signals.done_before_stop(import_at_start(config, backend.documents, log)):
            for each in listening:
                # Whatever ends one of them, all are to end before the store that they use.
                opened.push_async_callback(each.server.stop, None)
                await each.server.start()
            await health.set_serving(service.name for service in backend.services)
            readiness.not_serving_because = ""
            log.info(names.EVENT_SERVING, **_announced(listening), **probed)
            try:
                await signals.done_before_stop(
                    until_ended(
                        [each.server for each in listening],
                        purge_hourly(backend.store, config.conversations.retention_days, log),
                        access.keep_up_to_date(),
                        watch_loop_lag(metrics.observe_loop_lag),
                    )
                )
            except OperatorError as error:
                log.exception(names.EVENT_FAILED)
                readiness.not_serving_because = str(error)
                await health.shut_down()
                raise
        signal = await signals.wait_for_stop()
        log.info(names.EVENT_DRAINING, **{names.KEY_SIGNAL: signal.name})
        readiness.not_serving_because = _DRAINING
        await _drain(listening, health, config.server.shutdown_grace_s)
    log.info(names.EVENT_STOPPED)


async def _open_to_probes(
    config: Config,
    opened: AsyncExitStack,
    facts: ServerFacts,
    metrics: Metrics,
    readiness: _Readiness,
) -> tuple[HealthReporter, dict[str, str]]:
    """Serve those who ask how the server is, before it serves; return where."""
    operations = Operations(
        config.operations.listen,
        metrics.registry,
        readiness.checks,
        describe=facts,
        tls=_operations_tls(config, facts, metrics),
    )
    operations_address = await operations.start()
    opened.push_async_callback(operations.stop)
    health = await HealthReporter.create()
    health_server = HealthServer(config.server.health_listen, health)
    health_address = await health_server.start()
    opened.push_async_callback(health_server.stop)
    return health, {
        names.KEY_HEALTH_ADDRESS: str(health_address),
        names.KEY_OPERATIONS_ADDRESS: str(operations_address),
    }


def _announced(listening: Sequence[Listening]) -> dict[str, object]:
    main, *further = (str(each.address) for each in listening)
    return {
        names.KEY_VERSION: version("kotaemon-grpc"),
        names.KEY_ADDRESS: main,
        **({names.KEY_ADDRESSES: further} if further else {}),
    }


async def _drain(listening: Sequence[Listening], health: HealthReporter, grace_s: float) -> None:
    """Say that the server does not serve, and let running calls finish."""
    await health.shut_down()
    health.end_watches()
    await asyncio.gather(*(each.server.stop(grace_s) for each in listening))


def tracing_of(config: Config, opened: AsyncExitStack, metrics: Metrics) -> Tracing:
    """Make what begins spans, and what exports them if there is a receiver."""
    traces = config.traces
    if not traces.endpoint:
        return Tracing()
    exporter = open_exporter(
        Receiver(
            traces.endpoint,
            ca=traces.ca,
            insecure=traces.insecure,
            headers_file=traces.headers_file,
        ),
        version=version("kotaemon-grpc"),
        instance=socket.gethostname(),
    )
    opened.push_async_callback(exporter.shutdown, _FLUSH_S)
    metrics.ask_traces(lambda: exporter.dropped + exporter.failed)
    return Tracing(exporter, sample_ratio=traces.sample_ratio, follow_parent=traces.follow_parent)


def _operations_tls(config: Config, facts: ServerFacts, metrics: Metrics) -> ssl.SSLContext | None:
    operations = config.operations
    if operations.certificate is None or operations.key is None:
        return None
    context = server_context(operations.certificate, operations.key, operations.client_ca)
    chain = load_all(operations.certificate)
    facts.own_certificates = {operations.certificate: chain}
    expires = min(each.not_valid_after_utc for each in chain)
    metrics.set_certificate_expiry(str(operations.certificate), expires)
    return context


def _reload_report(metrics: Metrics, log: FilteringBoundLogger) -> Callable[[str, str, str], None]:
    """Make what counts each attempt to read something again, and says when that has changed."""
    counts = {kind: metrics.on_reload(kind) for kind in (names.RELOAD_JWKS, names.RELOAD_API_KEYS)}
    problems: dict[str, str] = {}

    def report(kind: str, name: str, problem: str) -> None:
        counts[kind](not problem)
        if problem == problems.get(name):
            return
        problems[name] = problem
        found = {names.KEY_WHAT: kind, names.KEY_NAME: name}
        if problem:
            log.warning(names.EVENT_RELOAD_FAILED, **found, **{names.KEY_REASON: problem})
        else:
            log.info(names.EVENT_RELOADED, **found)

    return report
