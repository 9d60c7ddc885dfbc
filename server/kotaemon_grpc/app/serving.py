"""The life of a server: put together, served until a signal comes, drained."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, NoReturn

from prometheus_client import CollectorRegistry

from kotaemon_grpc.app.access import Access, policy_of
from kotaemon_grpc.app.backend import open_backend
from kotaemon_grpc.app.certificates import tell_expiries
from kotaemon_grpc.app.drain import Drain
from kotaemon_grpc.app.facts import ServerFacts
from kotaemon_grpc.app.front import bind_all
from kotaemon_grpc.app.probes import Readiness, open_to_probes
from kotaemon_grpc.app.reload_report import ReloadReport
from kotaemon_grpc.app.reloading import Reloading
from kotaemon_grpc.app.seams import Seams
from kotaemon_grpc.app.upkeep import end_untaken, import_at_start, purge_hourly, until_ended
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.core.leaving import Leaving
from kotaemon_grpc.pipeline.running import Running
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.loop_lag import watch_loop_lag
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.telemetry.otlp import Receiver, open_exporter
from kotaemon_grpc.telemetry.tracing import Tracing
from kotaemon_grpc.transport.shutdown import StopSignals, done_before, exit_within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.app.backend import Backend
    from kotaemon_grpc.app.front import Listening
    from kotaemon_grpc.config import Config, Layers
    from kotaemon_grpc.core.ports import AnswerEngine, Retriever
    from kotaemon_grpc.telemetry.logs import LoggerFactory
    from kotaemon_grpc.transport.health import HealthReporter
    from kotaemon_grpc.transport.tls import Material

_FLUSH_S = 1.0
_CLOSE_S = 30.0  # what is closed last may have to write a large index


@dataclass(frozen=True, slots=True)
class _Parts:
    """A server that is put together and has not begun to serve."""

    config: Config
    metrics: Metrics
    reloading: Reloading
    backend: Backend
    health: HealthReporter
    readiness: Readiness
    listening: Sequence[Listening]
    probed: Mapping[str, str]
    running: Running
    drain: Drain
    log: FilteringBoundLogger


async def serve(
    config: Config,
    logger: LoggerFactory,
    *,
    dropped_lines: Callable[[], Mapping[str, int]],
    layers: Layers | None = None,
    make_engine: Callable[[Retriever], AnswerEngine] | None = None,
) -> None:
    """Serve until a signal asks to stop, then drain.

    Args:
        config: the settings.
        logger: makes the logger of a part of the server.
        dropped_lines: tells how many lines of the log were lost, by their kind.
        layers: where the settings come from, if they are to be read again when they change.
        make_engine: makes what answers, from what finds passages; the server's own
            engine if it is left out.

    Raises:
        OperatorError: the server cannot start, or has ended by itself.
    """
    log = logger("server")
    async with AsyncExitStack() as telemetry, AsyncExitStack() as opened:
        metrics = Metrics(CollectorRegistry())
        metrics.set_build_info(version("kotaemon-grpc"))
        metrics.ask_log(dropped_lines)
        tracing = tracing_of(config, telemetry, metrics)
        parts = await _put_together(
            config,
            logger,
            opened,
            metrics=metrics,
            tracing=tracing,
            layers=layers,
            make_engine=make_engine,
        )
        # Until now a signal has ended the process at once. From now to the end of all that is
        # opened, the store too, it does so when it is the second.
        signals = await telemetry.enter_async_context(StopSignals())
        drain = parts.drain
        try:
            await done_before(
                _live(parts, opened),
                drain.until_known(signals, config.server.shutdown_delay_s),
            )
        except OperatorError as error:
            log.exception(names.EVENT_FAILED)
            parts.readiness.not_serving_because = str(error)
            parts.health.shut_down()
            await _end(drain, 0, 1, telemetry, opened)
            raise
        await _end(drain, config.server.shutdown_grace_s, 0, telemetry, opened)
    log.info(names.EVENT_STOPPED)


async def _put_together(
    config: Config,
    logger: LoggerFactory,
    opened: AsyncExitStack,
    *,
    metrics: Metrics,
    tracing: Tracing,
    layers: Layers | None,
    make_engine: Callable[[Retriever], AnswerEngine] | None,
) -> _Parts:
    log = logger("server")
    policy = policy_of(config)
    facts = ServerFacts(config)
    report = ReloadReport(metrics, log)
    facts.watched = report.watched
    facts.access = access = Access(config, report.attempted, report.changed)
    await access.load()
    running, leaving = Running(), Leaving()
    seams = Seams(
        config, policy, access, running=running, metrics=metrics, tracing=tracing, logger=logger
    )
    facts.backend = backend = await open_backend(
        config, opened, metrics, log, leaving=leaving, make_engine=make_engine
    )
    readiness = Readiness(backend.store)
    health, probed = await open_to_probes(
        config, opened, facts, metrics=metrics, readiness=readiness, report=report
    )
    facts.listening = listening = await bind_all(
        config,
        backend.services,
        health,
        seam_for=seams.seam_for,
        report=report,
        on_change=partial(_rotated, metrics, access),
        log=log,
    )
    reloading = Reloading(report, seams, access, backend, facts=facts, logger=logger, log=log)
    if layers is not None:
        await reloading.follow(config, layers)
    drain = Drain(
        health=health, leaving=leaving, running=running, on_begin=readiness.drain, log=log
    )
    return _Parts(
        config=config,
        metrics=metrics,
        reloading=reloading,
        backend=backend,
        health=health,
        readiness=readiness,
        listening=listening,
        probed=probed,
        running=running,
        drain=drain,
        log=log,
    )


def _rotated(metrics: Metrics, access: Access, material: Material) -> None:
    tell_expiries(metrics, material)
    access.forget()  # whoever was verified with a CA that may be gone


async def _live(parts: _Parts, opened: AsyncExitStack) -> NoReturn:
    """Import what the settings name, then serve.

    Raises:
        OperatorError: the server has ended by itself.
    """
    config, backend, drain = parts.config, parts.backend, parts.drain
    await import_at_start(config, backend.documents, parts.log)
    for each in parts.listening:
        # Whatever ends one of them, all are to end before the store that they use.
        opened.push_async_callback(each.server.stop, None)
        drain.servers.append(each.server)
        await each.server.start()
    parts.health.set_serving(service.name for service in backend.services)
    parts.readiness.not_serving_because = ""
    parts.log.info(names.EVENT_SERVING, **_announced(parts.listening), **parts.probed)
    await until_ended(
        drain.servers,
        purge_hourly(backend.store, config, parts.log),
        parts.reloading.keep_up_to_date(),
        watch_loop_lag(parts.metrics.observe_loop_lag),
        end_untaken(drain.servers, parts.running, config.limits.slow_reader_s),
    )


async def _end(
    drain: Drain,
    grace_s: float,
    status: int,
    telemetry: AsyncExitStack,
    opened: AsyncExitStack,
) -> None:
    """End the calls, and see to it that nothing that hangs holds up the end of the process."""
    if await drain.end_calls(grace_s):
        telemetry.callback(exit_within(_CLOSE_S, status).cancel)
    else:
        opened.pop_all()  # nothing is closed under a handler that still runs
        exit_within(2 * _FLUSH_S, status)


def _announced(listening: Sequence[Listening]) -> dict[str, object]:
    main, *further = (str(each.address) for each in listening)
    return {
        names.KEY_VERSION: version("kotaemon-grpc"),
        names.KEY_ADDRESS: main,
        **({names.KEY_ADDRESSES: further} if further else {}),
    }


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
