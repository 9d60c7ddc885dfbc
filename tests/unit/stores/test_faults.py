from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import StorageFull, StorageUnavailable
from kotaemon_grpc.core.model import IndexingState, Query, Scope
from kotaemon_grpc.stores.sqlite.connection import connect_writer
from kotaemon_grpc.stores.sqlite.store import SqliteStore
from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))


async def test_a_full_database_is_told_and_writes_work_again_with_room(tmp_path: Path) -> None:
    connection = connect_writer(tmp_path / "kotaemon.sqlite3")
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    writer = Writer(connection, 0, lambda _: None)

    def put(key: str, size: int) -> Callable[[Transaction], str]:
        def operation(transaction: Transaction) -> str:
            transaction.connection.execute("INSERT INTO meta VALUES (?, zeroblob(?))", (key, size))
            return key

        return operation

    small, large, last = (
        asyncio.wrap_future(writer.submit(put(key, size)))
        for key, size in (("small", 10), ("large", 10**6), ("last", 10))
    )
    assert await small == "small"
    with pytest.raises(StorageFull):
        await large
    assert await last == "last"
    room = writer.submit(lambda t: t.connection.execute("PRAGMA max_page_count = 9999"))
    await asyncio.wrap_future(room)
    assert await asyncio.wrap_future(writer.submit(put("large", 10**6))) == "large"
    writer.close()


async def test_a_failing_operation_takes_nothing_with_it(tmp_path: Path) -> None:
    writer = Writer(connect_writer(tmp_path / "kotaemon.sqlite3"), 0, lambda _: None)

    def failing(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT INTO meta VALUES ('half', '')")
        raise ZeroDivisionError

    def working(transaction: Transaction) -> None:
        transaction.connection.execute("INSERT INTO meta VALUES ('whole', '')")

    futures = [writer.submit(failing), writer.submit(working), writer.submit(failing)]
    results = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    assert [type(result) for result in results] == [
        ZeroDivisionError,
        type(None),
        ZeroDivisionError,
    ]
    keys = writer.submit(lambda t: t.connection.execute("SELECT key FROM meta").fetchall())
    assert {key for (key,) in await asyncio.wrap_future(keys)} == {"page_token_key", "whole"}
    writer.close()
    with pytest.raises(StorageUnavailable):
        writer.submit(working)


async def test_an_index_that_cannot_be_written_loses_nothing_and_catches_up(
    open_store: Callable[[], SqliteStore], data_dir: Path, draft: Any
) -> None:
    store = open_store()
    place = data_dir / "index"
    shutil.rmtree(place)
    place.write_text("in the way")
    with pytest.raises(StorageUnavailable):
        await store.documents.put(HERE, draft("a", "a gate"), replace=False)
    document = await store.documents.get(HERE, "a")
    assert document is not None
    assert document.indexing_state is IndexingState.INDEXING
    assert store.index_lag() == 1
    place.unlink()
    place.mkdir()
    await store.documents.put(HERE, draft("a", "a gate"), replace=True)
    document = await store.documents.get(HERE, "a")
    assert document is not None
    assert document.indexing_state is IndexingState.INDEXED
    assert store.index_lag() == 0
    hits = (await store.retriever.retrieve(HERE, Query("gate"), CONTEXT)).hits
    assert [hit.document.id for hit in hits] == ["a"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"needs leave to mount a file system: {result.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607 - found on PATH


async def test_a_full_disk_is_told_and_everything_works_again_with_room(
    small_disk: Path, draft: Any
) -> None:
    store = await asyncio.to_thread(SqliteStore.open, small_disk / "data")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (18 << 20))
    kept: list[str] = []

    async def fill() -> None:
        for number in range(2000):
            texts = [f"gate{number} " + "word " * 2000 + str(part) for part in range(20)]
            await store.documents.put(HERE, draft(f"d{number}", *texts), replace=False)
            kept.append(f"d{number}")

    with pytest.raises(StorageFull):
        await fill()
    assert kept
    hits = (await store.retriever.retrieve(HERE, Query("gate0"), CONTEXT)).hits
    assert hits[0].document.id == "d0"
    filler.unlink()
    await store.documents.put(HERE, draft("after", "a drawbridge"), replace=False)
    assert (await store.retriever.retrieve(HERE, Query("drawbridge"), CONTEXT)).hits
    for number, document_id in enumerate(kept):
        hits = (await store.retriever.retrieve(HERE, Query(f"gate{number}"), CONTEXT)).hits
        assert hits[0].document.id == document_id
    await asyncio.to_thread(store.close)


async def test_closing_writes_what_is_queued(
    open_store: Callable[[], SqliteStore], draft: Any
) -> None:
    store = open_store()
    puts = [
        asyncio.create_task(store.documents.put(HERE, draft(f"d{n}", "a gate"), replace=False))
        for n in range(20)
    ]
    # One turn of the loop is enough for each to be queued.
    await asyncio.sleep(0)
    await asyncio.to_thread(store.close)
    await asyncio.gather(*puts)
    again = open_store()
    assert again.rebuilt_indexes == 0
    assert len((await again.documents.list(HERE, after="", limit=100)).items) == 20
    assert len((await again.retriever.retrieve(HERE, Query("gate", limit=100), CONTEXT)).hits) == 20
    open_store()


async def test_a_caller_that_goes_away_leaves_the_index_complete(
    open_store: Callable[[], SqliteStore], draft: Any
) -> None:
    store = open_store()
    gone = asyncio.create_task(store.documents.put(HERE, draft("a", "a gate"), replace=False))
    await asyncio.sleep(0)
    gone.cancel()
    await store.documents.put(HERE, draft("b", "a gate"), replace=False)
    page = await store.documents.list(HERE, after="", limit=5)
    hits = (await store.retriever.retrieve(HERE, Query("gate"), CONTEXT)).hits
    assert {d.id for d in page.items} == {hit.document.id for hit in hits}
    assert all(d.indexing_state is IndexingState.INDEXED for d in page.items)


async def test_old_conversations_are_purged_for_all_tenants(data_dir: Path) -> None:
    times = iter(datetime(2024, month, 1, tzinfo=UTC) for month in (1, 2, 3))
    store = await asyncio.to_thread(SqliteStore.open, data_dir, clock=lambda: next(times))
    for tenant, name in (("acme", "old"), ("other", "older"), ("acme", "new")):
        await store.conversations.create(tenant, name, "")
    assert await store.purge_conversations(datetime(2024, 3, 1, tzinfo=UTC)) == 2
    left = await store.conversations.list("acme", after="", limit=5)
    assert [conversation.id for conversation in left.items] == ["new"]
    assert await store.conversations.get("other", "older") is None
    await asyncio.to_thread(store.close)
