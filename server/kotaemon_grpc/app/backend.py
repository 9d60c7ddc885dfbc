"""What answers: the store, the engine, the use cases, and the services upon them."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kotaemon_grpc.api import v1
from kotaemon_grpc.api.v2 import agent, conversation, document, retrieval
from kotaemon_grpc.app.catalog import DESCRIPTORS
from kotaemon_grpc.core.ask import Asking
from kotaemon_grpc.core.converse import Conversing
from kotaemon_grpc.core.documents import Documents
from kotaemon_grpc.core.once import Once
from kotaemon_grpc.core.paging import PageTokens
from kotaemon_grpc.core.search import Searching
from kotaemon_grpc.documents.parser import TextParser
from kotaemon_grpc.documents.spool import TemporarySpool
from kotaemon_grpc.engines.admission import Admission
from kotaemon_grpc.engines.bounded import BoundedEngine, BoundedRetriever
from kotaemon_grpc.engines.local.engine import LocalEngine
from kotaemon_grpc.engines.measured import MeasuredEngine, MeasuredRetriever
from kotaemon_grpc.engines.traced import TracedEngine, TracedRetriever
from kotaemon_grpc.stores.sqlite.store import SqliteStore
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AsyncExitStack

    from google.protobuf.descriptor import ServiceDescriptor
    from google.protobuf.message import Message
    from google.rpc import status_pb2
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.config import Config, Limits
    from kotaemon_grpc.core.leaving import Leaving
    from kotaemon_grpc.core.ports import AnswerEngine, Retriever
    from kotaemon_grpc.telemetry.engine_metrics import EngineMetrics
    from kotaemon_grpc.telemetry.metrics import Metrics

ENGINE = "local"
SEARCH = "search"
_PARSERS = 2
_ANSWERERS = 4


@dataclass(frozen=True, slots=True)
class Service:
    """A servicer, under the name it is served by.

    Args:
        name: the full name, which need not be that of the descriptor.
        descriptor: what the servicer implements.
        servicer: has a coroutine for each method of the descriptor.
        failure_messages: by method name, what makes the terminal event of its stream.
    """

    name: str
    descriptor: ServiceDescriptor
    servicer: object
    failure_messages: Mapping[str, Callable[[status_pb2.Status, int], Message]] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Backend:
    """All of it, and what others have to look after.

    Args:
        places: by what they let in, `ENGINE` and `SEARCH`.
    """

    store: SqliteStore
    documents: Documents
    services: tuple[Service, ...]
    places: Mapping[str, Admission]


async def open_backend(
    config: Config,
    opened: AsyncExitStack,
    metrics: Metrics,
    log: FilteringBoundLogger,
    *,
    leaving: Leaving,
    make_engine: Callable[[Retriever], AnswerEngine] | None = None,
) -> Backend:
    """Open the store, and put the rest upon it.

    Args:
        config: the settings.
        opened: closes what is opened here.
        metrics: counts.
        log: of the server.
        leaving: tells those who serve streams that the server is going to stop.
        make_engine: makes what answers, from what finds passages; if it is left out, the
            server's own engine does.

    Raises:
        OperatorError: the store cannot be opened.
    """
    store = await _open_store(config, opened, metrics, log)
    engine_metrics = metrics.for_engine(ENGINE)
    places = {
        ENGINE: _admission(config, config.limits.engine_places, engine_metrics, metrics),
        SEARCH: _admission(
            config, config.limits.search_places, metrics.for_engine(SEARCH), metrics
        ),
    }
    retriever = MeasuredRetriever(TracedRetriever(store.retriever), metrics.observe_retrieval)
    answerers = ThreadPoolExecutor(_ANSWERERS, thread_name_prefix="engine")
    opened.enter_context(answerers)
    answering = make_engine(retriever) if make_engine else LocalEngine(retriever, answerers)
    engine = MeasuredEngine(TracedEngine(answering, ENGINE), engine_metrics)
    tokens = PageTokens(store.page_token_key)
    # Threads of their own, so that large documents never hold up an answer.
    parsers = opened.enter_context(ThreadPoolExecutor(_PARSERS, thread_name_prefix="parser"))
    once = Once(store.requests)
    documents = Documents(
        store=store.documents,
        parser=TextParser(parsers),
        spool=TemporarySpool(store.spool_dir),
        once=once,
        tokens=tokens,
        max_document_bytes=config.documents.max_document_bytes,
    )
    services = _services(
        config=config,
        store=store,
        engine=BoundedEngine(engine, places[ENGINE]),
        retriever=BoundedRetriever(retriever, places[SEARCH]),
        documents=documents,
        once=once,
        tokens=tokens,
        metrics=metrics,
        leaving=leaving,
    )
    return Backend(store, documents, services, places)


async def _open_store(
    config: Config, opened: AsyncExitStack, metrics: Metrics, log: FilteringBoundLogger
) -> SqliteStore:
    store = await asyncio.to_thread(
        SqliteStore.open, config.storage.data_dir, max_requests=config.requests.max_count
    )
    opened.push_async_callback(asyncio.to_thread, store.close)
    if store.rebuilt_indexes:
        log.info(names.EVENT_INDEX_REBUILT, **{names.KEY_COUNT: store.rebuilt_indexes})
    metrics.ask_store(
        documents=store.document_count, passages=store.passage_count, index_lag=store.index_lag
    )
    metrics.ask_index_size(store.index_size_bytes)
    metrics.ask_requests(store.request_count)
    return store


def _admission(
    config: Config, places: int, engine_metrics: EngineMetrics, metrics: Metrics
) -> Admission:
    admission = Admission(
        places,
        max_waiting=config.limits.max_waiting,
        max_wait_s=config.limits.max_wait_s,
        clock=time.monotonic,
        on_shed=metrics.count_shed,
    )
    engine_metrics.ask_load(lambda: admission.in_flight, lambda: admission.waiting)
    return admission


def resize(places: Mapping[str, Admission], limits: Limits) -> None:
    """Set the places of a running backend, by what they let in."""
    counts = {ENGINE: limits.engine_places, SEARCH: limits.search_places}
    for name, admission in places.items():
        admission.resize(counts[name], max_waiting=limits.max_waiting, max_wait_s=limits.max_wait_s)


def _services(
    *,
    config: Config,
    store: SqliteStore,
    engine: AnswerEngine,
    retriever: Retriever,
    documents: Documents,
    once: Once,
    tokens: PageTokens,
    metrics: Metrics,
    leaving: Leaving,
) -> tuple[Service, ...]:
    """Put the use cases together, and the services of both versions upon them."""
    asking = Asking(
        engine=engine,
        documents=store.documents,
        conversations=store.conversations,
        once=once,
        history_turns=config.conversations.history_turns,
        clock=_now,
        new_id=_new_id,
        on_answer=lambda answer: metrics.count_answer(answer.finish_reason),
    )
    conversing = Conversing(
        conversations=store.conversations, once=once, tokens=tokens, new_id=_new_id
    )
    searching = Searching(retriever=retriever, documents=store.documents, tokens=tokens)
    servicers: dict[ServiceDescriptor, object] = {
        v1.SERVICE: v1.AgentService(asking, leaving),
        agent.SERVICE: agent.AgentService(asking, leaving),
        conversation.SERVICE: conversation.ConversationService(conversing),
        retrieval.SERVICE: retrieval.RetrievalService(searching),
        document.SERVICE: document.DocumentService(documents),
    }
    failure_messages = {agent.SERVICE: agent.FAILURE_MESSAGES}
    return tuple(
        Service(name, descriptor, servicers[descriptor], failure_messages.get(descriptor, {}))
        for name, descriptor in DESCRIPTORS.items()
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return uuid.uuid4().hex
