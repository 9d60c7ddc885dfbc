"""Writes whose caller goes away or fails on the way, and comes again."""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.core.model import ImportOutcome, IndexingState, Query, Scope
from kotaemon_grpc.core.once import AlreadyDone, Claim, Stored
from kotaemon_grpc.stores.sqlite.connection import connect_writer
from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kotaemon_grpc.stores.sqlite.store import SqliteStore

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))
CLAIM = Claim("acme", "someone", "r-1", b"\x01" * 32)


class Held:
    """An operation that waits on the writer's thread until it may end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, transaction: Transaction) -> None:
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.may_end.wait(60)
        transaction.connection.execute("INSERT INTO meta VALUES ('held', '')")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(connect_writer(tmp_path / "kotaemon.sqlite3"), 0, lambda _: None)
    yield made
    made.close()


def keys(transaction: Transaction) -> set[str]:
    rows = transaction.connection.execute("SELECT key FROM meta").fetchall()
    return {key for (key,) in rows} - {"page_token_key"}


async def test_who_is_cancelled_leaves_once_it_is_settled_what_came_of_it(writer: Writer) -> None:
    held = Held()
    writing = asyncio.create_task(writer.run(held))
    await held.begun.wait()
    writing.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not writing.done()
    held.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await writer.run(keys) == {"held"}


async def test_who_is_cancelled_twice_leaves_at_once(writer: Writer) -> None:
    held = Held()
    writing = asyncio.create_task(writer.run(held))
    await held.begun.wait()
    for _ in range(2):
        writing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not held.may_end.is_set()
    held.may_end.set()


async def test_what_was_not_begun_is_not_done_for_who_is_cancelled(writer: Writer) -> None:
    first, second = Held(), Held()
    running = asyncio.create_task(writer.run(first))
    await first.begun.wait()
    waiting = asyncio.create_task(writer.run(second))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.may_end.set()
    await running
    assert await writer.run(keys) == {"held"}
    assert not second.begun.is_set()


async def test_a_document_whose_index_failed_is_repeated_until_it_is_found(
    open_store: Callable[[], SqliteStore], data_dir: Path, draft: Any
) -> None:
    store = open_store()
    place = data_dir / "index"
    shutil.rmtree(place)
    place.write_text("in the way")
    gate = draft("a", "a gate")
    with pytest.raises(StorageUnavailable):
        await store.documents.put(HERE, gate, replace=False, claim=CLAIM)
    with pytest.raises(StorageUnavailable):
        await store.requests.outcome(CLAIM)
    with pytest.raises(AlreadyDone):
        await store.documents.put(HERE, gate, replace=False, claim=CLAIM)
    place.unlink()
    place.mkdir()
    outcome = await store.requests.outcome(CLAIM)
    assert isinstance(outcome, Stored)
    assert outcome.outcome is ImportOutcome.CREATED
    assert outcome.document.indexing_state is IndexingState.INDEXED
    assert outcome.document == await store.documents.get(HERE, "a")
    hits = (await store.retriever.retrieve(HERE, Query("gate"), CONTEXT)).hits
    assert [hit.document.id for hit in hits] == ["a"]
