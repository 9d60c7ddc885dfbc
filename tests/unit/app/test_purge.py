"""What is kept for a time only."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.app.upkeep import purge_hourly
from kotaemon_grpc.config import Config
from kotaemon_grpc.core.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeStore:
    """Notes up to when it was to delete."""

    def __init__(self) -> None:
        self.conversations: list[datetime] = []
        self.requests: list[datetime] = []
        self.error: Exception | None = None
        self.done = asyncio.Event()

    async def purge_conversations(self, older_than: datetime) -> int:
        self.conversations.append(older_than)
        if self.error is not None:
            raise self.error
        return 3

    async def purge_requests(self, older_than: datetime) -> int:
        self.requests.append(older_than)
        self.done.set()
        if self.error is not None:
            raise self.error
        return 5


class FakeLog:
    """Notes the events."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def log(event: str, **_: Any) -> None:
            self.told.append((level, event))

        return log


async def purged(config: Config, store: FakeStore) -> FakeLog:
    """Purge once."""
    log: Any = FakeLog()
    working = asyncio.create_task(purge_hourly(store, config, log))  # type: ignore[arg-type]
    await store.done.wait()
    await asyncio.sleep(0)  # it rests by then
    assert not working.done()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    return log


async def test_what_is_older_than_its_time_is_deleted() -> None:
    settings = {"conversations": {"retention_days": 2}, "requests": {"window_hours": 3}}
    store = FakeStore()
    before = datetime.now(UTC)
    log = await purged(Config.model_validate(settings), store)
    took = datetime.now(UTC) - before
    for limits, kept in (
        (store.conversations, timedelta(days=2)),
        (store.requests, timedelta(hours=3)),
    ):
        assert [timedelta(0) <= each - (before - kept) <= took for each in limits] == [True]
    assert log.told == [("info", "conversations.purged")]


async def test_conversations_may_be_kept_for_ever_and_requests_may_not() -> None:
    store = FakeStore()
    await purged(Config.model_validate({"conversations": {"retention_days": 0}}), store)
    assert (len(store.conversations), len(store.requests)) == (0, 1)


@pytest.mark.parametrize(
    ("error", "level"), [(StorageUnavailable(), "warning"), (ZeroDivisionError(), "exception")]
)
async def test_what_cannot_be_deleted_is_told_and_holds_up_nothing(
    error: Exception, level: str
) -> None:
    store = FakeStore()
    store.error = error
    log = await purged(Config(), store)
    assert log.told == [(level, "conversations.purge_failed"), (level, "requests.purge_failed")]
