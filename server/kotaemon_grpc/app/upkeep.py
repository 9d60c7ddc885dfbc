"""What the server does beside answering calls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from kotaemon_grpc.core.errors import AgentError, OperatorError
from kotaemon_grpc.core.model import DEFAULT_TENANT, ImportOutcome, Scope
from kotaemon_grpc.documents.local_import import import_paths
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable

    import grpc
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.config import Config
    from kotaemon_grpc.core.documents import Documents
    from kotaemon_grpc.pipeline.running import Running
    from kotaemon_grpc.stores.sqlite.store import SqliteStore
    from kotaemon_grpc.transport.server import Server

_LISTENER_ENDED = "the gRPC listener has ended by itself"
_UPKEEP_ENDED = "upkeep has ended by itself"
_START_AGAIN = "start the server again"
_PURGE_EVERY_S = 3600.0


async def import_at_start(config: Config, documents: Documents, log: FilteringBoundLogger) -> None:
    """Import what the settings name. What cannot be read is said, and stops nothing."""
    if not config.documents.import_paths:
        return
    report = await import_paths(documents, Scope(DEFAULT_TENANT), config.documents.import_paths)
    for path, reason in report.failures:
        log.warning(names.EVENT_IMPORT_FAILED, **{names.KEY_PATH: path, names.KEY_REASON: reason})
    log.info(
        names.EVENT_IMPORTED,
        **{outcome.value: report.outcomes[outcome] for outcome in ImportOutcome},
        **{names.KEY_FAILED: len(report.failures)},
    )


async def until_ended(
    servers: Iterable[grpc.aio.Server], *work: Coroutine[None, None, None]
) -> NoReturn:
    """Do background work for as long as all servers serve.

    Work may come to its end, but not fail: a server whose keys are not read any more, say,
    would accept for ever what was revoked.

    Raises:
        OperatorError: a server ended by itself, or work failed; the process must not live
            on without it.
    """
    working = {asyncio.create_task(each) for each in work}
    # Waited for from outside: to cancel it would be to cancel the server's own state.
    ended = {asyncio.ensure_future(server.wait_for_termination()) for server in servers}
    for each in ended:
        each.add_done_callback(lambda task: task.cancelled() or task.exception())
    pending: set[asyncio.Task[Any]] = {*ended, *working}
    try:
        while True:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                cause = _cause(task)
                if task in ended:
                    raise OperatorError(f"{_LISTENER_ENDED}; {_START_AGAIN}") from cause
                if cause is not None:
                    raise OperatorError(f"{_UPKEEP_ENDED}; {_START_AGAIN}") from cause
    finally:
        for task in working:
            task.cancel()
        # None of it may meet what is closed next.
        await asyncio.gather(*working, return_exceptions=True)


def _cause(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what a task ended with; of a group, the first: a group's own place says nothing."""
    if task.cancelled():
        return asyncio.CancelledError()
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def end_untaken(servers: Iterable[Server], running: Running, patience_s: float) -> NoReturn:
    """End the calls whose clients do not take the end, after one to two times the patience."""
    while True:
        await asyncio.sleep(patience_s)
        handlers = {call.task for call in running}
        for server in servers:
            server.end_untaken(handlers)


async def purge_hourly(store: SqliteStore, config: Config, log: FilteringBoundLogger) -> None:
    """Delete what has been kept for long enough, now and every hour.

    That is the conversations that rested, and what came of requests: it is remembered for
    its window, and up to an hour more.
    """
    retention = timedelta(days=config.conversations.retention_days)
    window = timedelta(hours=config.requests.window_hours)
    while True:
        now = datetime.now(UTC)
        if retention:
            count = await _purged(
                store.purge_conversations(now - retention), names.EVENT_PURGE_FAILED, log
            )
            if count:
                log.info(names.EVENT_PURGED, **{names.KEY_COUNT: count})
        await _purged(store.purge_requests(now - window), names.EVENT_REQUESTS_PURGE_FAILED, log)
        await asyncio.sleep(_PURGE_EVERY_S)


async def _purged(purging: Awaitable[int], failed: str, log: FilteringBoundLogger) -> int:
    """Return how many were deleted; what fails is tried again the next time."""
    try:
        return await purging
    except AgentError as error:
        log.warning(failed, exc_info=error)
    except Exception:
        log.exception(failed)
    return 0
