"""How many outcomes are kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.errors import AlreadyExists
from kotaemon_grpc.core.once import Claim, Deleted
from kotaemon_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def claim(number: int) -> Claim:
    return Claim(f"tenant-{number % 2}", "someone", f"r-{number}", b"\x01" * 32)


async def add(store: SqliteStore, numbers: range) -> None:
    for number in numbers:
        await store.requests.remember(claim(number), Deleted())


async def kept(store: SqliteStore, numbers: range) -> list[int]:
    return [number for number in numbers if await store.requests.outcome(claim(number))]


@pytest.fixture
def limited(data_dir: Path) -> Iterator[Callable[[int], SqliteStore]]:
    """Open the store of `data_dir` with a limit, after closing the one that was opened before."""
    opened: list[SqliteStore] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def reopen(max_requests: int) -> SqliteStore:
        close()
        opened.append(SqliteStore.open(data_dir, max_requests=max_requests))
        return opened[0]

    yield reopen
    close()


async def test_the_oldest_beyond_the_limit_are_forgotten(
    limited: Callable[[int], SqliteStore],
) -> None:
    store = limited(3)
    assert store.request_count() == 0
    await add(store, range(3))
    assert await kept(store, range(3)) == [0, 1, 2]
    await add(store, range(3, 5))
    assert await kept(store, range(5)) == [2, 3, 4]
    assert await asyncio.to_thread(store.request_count) == 3


async def test_the_limit_holds_for_the_outcomes_of_all_writes(
    limited: Callable[[int], SqliteStore],
) -> None:
    store = limited(2)
    for number in range(5):
        await store.conversations.create("tenant", f"c-{number}", "", claim=claim(number))
    assert await kept(store, range(5)) == [3, 4]


async def test_what_fails_displaces_nothing(limited: Callable[[int], SqliteStore]) -> None:
    store = limited(2)
    await store.conversations.create("tenant", "taken", "", claim=claim(0))
    await add(store, range(1, 2))
    for _ in range(3):
        with pytest.raises(AlreadyExists):
            await store.conversations.create("tenant", "taken", "", claim=claim(2))
    assert await kept(store, range(3)) == [0, 1]


async def test_a_limit_that_is_lowered_is_reached_step_by_step(
    limited: Callable[[int], SqliteStore],
) -> None:
    await add(limited(50), range(60))
    store = limited(5)
    assert await kept(store, range(60)) == list(range(10, 60))
    await add(store, range(60, 61))
    assert 5 < store.request_count() < 50
    await add(store, range(61, 66))
    assert await kept(store, range(66)) == list(range(61, 66))
