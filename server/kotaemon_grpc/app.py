"""The composition root: settings in, a running server out. Only this file knows every part."""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import grpc
from prometheus_client import CollectorRegistry

from kotaemon_grpc.api import v1
from kotaemon_grpc.api.v2 import agent, conversation, document, retrieval
from kotaemon_grpc.core.ask import Asking
from kotaemon_grpc.core.converse import Conversing
from kotaemon_grpc.core.documents import Documents
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.core.paging import PageTokens
from kotaemon_grpc.core.search import Searching
from kotaemon_grpc.documents.parser import TextParser
from kotaemon_grpc.documents.spool import TemporarySpool
from kotaemon_grpc.engines.local.engine import LocalEngine
from kotaemon_grpc.pipeline.access_log import AccessLog
from kotaemon_grpc.pipeline.call_metrics import CallMetrics
from kotaemon_grpc.pipeline.registration import service_handler
from kotaemon_grpc.pipeline.seam import Seam
from kotaemon_grpc.stores.sqlite.store import SqliteStore
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.transport import pki, reflection, tls
from kotaemon_grpc.transport.health import SERVICE_NAME as HEALTH
from kotaemon_grpc.transport.health import HealthReporter, HealthServer
from kotaemon_grpc.transport.listener import bind, server_options
from kotaemon_grpc.transport.operations import Operations
from kotaemon_grpc.transport.shutdown import StopSignals
from kotaemon_grpc.upkeep import ENDED, import_at_start, purge_hourly, until_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.config import Config
    from kotaemon_grpc.core.ports import AnswerEngine
    from kotaemon_grpc.telemetry.logs import LoggerFactory

_PARSERS = 2
_ANSWERERS = 4
_STARTING = "starting"
_DRAINING = "draining"
_VANISHED = "the data directory has vanished: put it back and start the server again"


@dataclass(frozen=True, slots=True)
class _Service:
    """A servicer, and what it is registered with."""

    descriptor: Any
    servicer: object
    failure_messages: Any
    name: str


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
    async with AsyncExitStack() as opened:
        metrics = Metrics(CollectorRegistry())
        metrics.set_build_info(version("kotaemon-grpc"))
        metrics.observe_log(dropped_lines)
        credentials = await asyncio.to_thread(_credentials, config, metrics, log)
        store, documents, services = await _backend(config, opened, metrics, log)
        signals = await opened.enter_async_context(StopSignals())

        not_serving_because = _STARTING
        operations = Operations(
            config.operations.listen,
            metrics.registry,
            {
                "serving": lambda: not_serving_because,
                "store": lambda: "" if store.is_there() else _VANISHED,
            },
        )
        health, probed = await _open_to_probes(config, opened, operations)

        server = _server(config, services, health, Seam([CallMetrics(metrics), AccessLog(log)]))
        announced = {
            names.KEY_VERSION: version("kotaemon-grpc"),
            names.KEY_ADDRESS: str(bind(server, config.server.listen, credentials)),
            **probed,
        }
        if await signals.done_before_stop(import_at_start(config, documents, log)):
            await server.start()
            await health.set_serving(service.name for service in services)
            not_serving_because = ""
            log.info(names.EVENT_SERVING, **announced)
            try:
                await signals.done_before_stop(
                    until_ended(
                        server, purge_hourly(store, config.conversations.retention_days, log)
                    )
                )
            except OperatorError:
                not_serving_because = ENDED
                await health.shut_down()
                raise
        signal = await signals.wait_for_stop()
        log.info(names.EVENT_DRAINING, **{names.KEY_SIGNAL: signal.name})
        not_serving_because = _DRAINING
        await _drain(server, health, config.server.shutdown_grace_s)
    log.info(names.EVENT_STOPPED)


async def _open_to_probes(
    config: Config, opened: AsyncExitStack, operations: Operations
) -> tuple[HealthReporter, dict[str, str]]:
    """Serve those who ask how the server is, before it serves; return where."""
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


async def _drain(server: grpc.aio.Server, health: HealthReporter, grace_s: float) -> None:
    """Say that the server does not serve, and let running calls finish."""
    await health.shut_down()
    health.end_watches()
    await server.stop(grace_s)


async def _backend(
    config: Config, opened: AsyncExitStack, metrics: Metrics, log: FilteringBoundLogger
) -> tuple[SqliteStore, Documents, list[_Service]]:
    """Open the store, and put the use cases and the services upon it."""
    store = await asyncio.to_thread(SqliteStore.open, config.storage.data_dir)
    opened.push_async_callback(asyncio.to_thread, store.close)
    if store.rebuilt_indexes:
        log.info(names.EVENT_INDEX_REBUILT, **{names.KEY_COUNT: store.rebuilt_indexes})
    metrics.observe_store(
        documents=store.document_count, passages=store.passage_count, index_lag=store.index_lag
    )
    tokens = PageTokens(store.page_token_key)
    # Threads of their own, so that large documents never hold up an answer.
    parsers = opened.enter_context(ThreadPoolExecutor(_PARSERS, thread_name_prefix="parser"))
    documents = Documents(
        store=store.documents,
        parser=TextParser(parsers),
        spool=TemporarySpool(store.spool_dir),
        tokens=tokens,
        max_document_bytes=config.documents.max_document_bytes,
    )
    engine = LocalEngine(
        store.retriever,
        opened.enter_context(ThreadPoolExecutor(_ANSWERERS, thread_name_prefix="engine")),
    )
    services = _services(
        config=config,
        store=store,
        engine=engine,
        documents=documents,
        tokens=tokens,
        metrics=metrics,
    )
    return store, documents, services


def _credentials(
    config: Config, metrics: Metrics, log: FilteringBoundLogger
) -> grpc.ServerCredentials | None:
    """Load the TLS files, made or renewed first where they are the development PKI."""
    if config.server.insecure:
        return None
    if config.tls.is_development:
        for change in pki.ensure(config.tls.dir):
            log.info(names.EVENT_CERTIFICATE_ISSUED, **{names.KEY_PATH: str(change.path)})
    files = config.tls.files
    material = tls.load(
        files.certificate,
        files.key,
        files.client_ca,
        passphrase=config.tls.key_passphrase.get_secret_value(),
    )
    for path, expires in material.expiries.items():
        metrics.set_certificate_expiry(str(path), expires)
    return tls.server_credentials(material)


def _services(
    *,
    config: Config,
    store: SqliteStore,
    engine: AnswerEngine,
    documents: Documents,
    tokens: PageTokens,
    metrics: Metrics,
) -> list[_Service]:
    """Put the use cases together, and the services of both versions upon them."""
    asking = Asking(
        engine=engine,
        documents=store.documents,
        conversations=store.conversations,
        history_turns=config.conversations.history_turns,
        clock=_now,
        new_id=_new_id,
        on_answer=lambda answer: metrics.answered(answer.finish_reason),
    )
    conversing = Conversing(conversations=store.conversations, tokens=tokens, new_id=_new_id)
    searching = Searching(retriever=store.retriever, documents=store.documents, tokens=tokens)
    first = v1.AgentService(asking)
    return [
        _Service(v1.SERVICE, first, {}, v1.SERVICE.full_name),
        _Service(v1.SERVICE, first, {}, v1.UNVERSIONED_NAME),
        *(
            _Service(module.SERVICE, servicer, failure_messages, module.SERVICE.full_name)
            for module, servicer, failure_messages in (
                (agent, agent.AgentService(asking), agent.FAILURE_MESSAGES),
                (conversation, conversation.ConversationService(conversing), {}),
                (retrieval, retrieval.RetrievalService(searching), {}),
                (document, document.DocumentService(documents), {}),
            )
        ),
    ]


def _server(
    config: Config, services: list[_Service], health: HealthReporter, seam: Seam
) -> grpc.aio.Server:
    """Make the gRPC server with everything that it serves."""
    server = grpc.aio.server(
        options=server_options(
            config.server.max_message_bytes, config.server.max_concurrent_streams
        )
    )
    handlers = [
        service_handler(
            seam,
            service.descriptor,
            service.servicer,
            failure_messages=service.failure_messages,
            name=service.name,
        )
        for service in services
    ]
    if config.server.reflection:
        served = [*(service.name for service in services), HEALTH]
        aliases = {v1.UNVERSIONED_NAME: v1.SERVICE.full_name}
        handlers += reflection.handlers(served, aliases)
    server.add_generic_rpc_handlers(tuple(handlers))
    health.add_to(server)
    return server


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return uuid.uuid4().hex
