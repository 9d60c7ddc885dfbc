from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.model import Query, Retrieval, Scope
from kotaemon_grpc.stores.sqlite import index

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.stores.sqlite.store import SqliteStore

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))
QUERY = Query("gate lantern 证书")


@pytest.fixture
async def filled(open_store: Callable[[], SqliteStore], draft: Any) -> SqliteStore:
    store = open_store()
    for document_id, text in {
        "a": "the gate",
        "b": "a lantern",
        "c": "客户端证书",
        "d": "x",
    }.items():
        await store.documents.put(HERE, draft(document_id, text, "gate of " + text), replace=False)
    return store


def index_of(data_dir: Path) -> Path:
    (path,) = (data_dir / "index").iterdir()
    return path


def delete(path: Path) -> None:
    shutil.rmtree(path)


def make_a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("")


def lose_state(path: Path) -> None:
    (path / "state.json").unlink()


def break_state(path: Path) -> None:
    (path / "state.json").write_text("[]")


def break_meta(path: Path) -> None:
    (path / "meta.json").write_text("{")


def go_ahead(path: Path) -> None:
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"sequence": 99, "next_sequence": 99}))


def go_beyond_opstamp(path: Path) -> None:
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"opstamp": 10**6}))


@pytest.mark.parametrize(
    "damage",
    [delete, make_a_file, lose_state, break_state, break_meta, go_ahead, go_beyond_opstamp],
)
async def test_an_index_that_cannot_be_trusted_is_made_anew_and_answers_the_same(
    filled: SqliteStore,
    open_store: Callable[[], SqliteStore],
    data_dir: Path,
    damage: Callable[[Path], None],
) -> None:
    before = await filled.retriever.retrieve(HERE, QUERY, CONTEXT)
    filled.close()
    damage(index_of(data_dir))
    store = open_store()
    assert store.rebuilt_indexes == 1
    assert store.index_lag() == 0
    assert_same(await store.retriever.retrieve(HERE, QUERY, CONTEXT), before)


def test_a_good_index_is_not_made_anew(open_store: Callable[[], SqliteStore]) -> None:
    assert open_store().rebuilt_indexes == 0
    assert open_store().rebuilt_indexes == 0


async def test_an_index_of_another_format_is_made_anew(
    filled: SqliteStore, open_store: Callable[[], SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await filled.retriever.retrieve(HERE, QUERY, CONTEXT)
    monkeypatch.setattr(index, "FORMAT", index.FORMAT + 1)
    store = open_store()
    assert store.rebuilt_indexes == 1
    assert_same(await store.retriever.retrieve(HERE, QUERY, CONTEXT), before)
    assert open_store().rebuilt_indexes == 0


async def test_an_index_that_is_behind_catches_up(
    filled: SqliteStore, open_store: Callable[[], SqliteStore], data_dir: Path, draft: Any
) -> None:
    old = data_dir.parent / "old"
    filled.close()
    shutil.copytree(index_of(data_dir), old)
    store = open_store()
    await store.documents.put(HERE, draft("a", "a fence"), replace=True)
    await store.documents.put(HERE, draft("e", "a gate and a lantern"), replace=False)
    await store.documents.delete(HERE, "b")
    before = await store.retriever.retrieve(HERE, QUERY, CONTEXT)
    store.close()
    shutil.rmtree(index_of(data_dir))
    shutil.copytree(old, data_dir / "index" / "1")
    store = open_store()
    assert store.rebuilt_indexes == 0
    after = await store.retriever.retrieve(HERE, QUERY, CONTEXT)
    assert {hit.passage.text for hit in after.hits} == {hit.passage.text for hit in before.hits}


async def test_an_index_too_far_behind_is_made_anew(
    filled: SqliteStore, open_store: Callable[[], SqliteStore], data_dir: Path, draft: Any
) -> None:
    old = data_dir.parent / "old"
    shutil.copytree(index_of(data_dir), old)
    for document_id in ("a", "b"):
        await filled.documents.delete(HERE, document_id)
        # Having been applied, the deletion is forgotten by the next one.
        await filled.documents.put(HERE, draft("new" + document_id, "x y z"), replace=False)
    filled.close()
    shutil.rmtree(index_of(data_dir))
    shutil.copytree(old, data_dir / "index" / "1")
    store = open_store()
    assert store.rebuilt_indexes == 1
    hits = (await store.retriever.retrieve(HERE, QUERY, CONTEXT)).hits
    assert {hit.document.id for hit in hits} == {"c", "d"}


@pytest.mark.parametrize("ending", ["term", "idx", "fast"])
async def test_damage_that_only_a_search_meets_is_healed_by_it(
    filled: SqliteStore, open_store: Callable[[], SqliteStore], data_dir: Path, ending: str
) -> None:
    before = await filled.retriever.retrieve(HERE, QUERY, CONTEXT)
    filled.close()
    for file in index_of(data_dir).glob(f"*.{ending}"):
        file.write_bytes(b"")
    store = open_store()
    assert_same(await store.retriever.retrieve(HERE, QUERY, CONTEXT), before)
    assert store.rebuilt_indexes == 1


async def test_an_index_deleted_while_serving_comes_back_with_the_next_change(
    filled: SqliteStore, data_dir: Path, draft: Any
) -> None:
    shutil.rmtree(index_of(data_dir))
    outcomes = []
    for number in range(3):
        try:
            await filled.documents.put(HERE, draft(f"n{number}", "a drawbridge"), replace=False)
            outcomes.append(number)
        except Exception as error:  # noqa: BLE001 - some may be told to try again
            assert type(error).__name__ == "StorageUnavailable"  # noqa: PT017 - any number may
    found = await filled.retriever.retrieve(HERE, Query("drawbridge gate", limit=100), CONTEXT)
    assert {"n0", "n1", "n2", "a"} <= {hit.document.id for hit in found.hits}
    assert 2 in outcomes


def assert_same(after: Retrieval, before: Retrieval) -> None:
    def plain(retrieval: Retrieval) -> list[tuple[str, str]]:
        return sorted((hit.document.id, hit.passage.text) for hit in retrieval.hits)

    assert before.hits
    assert plain(after) == plain(before)
    assert after.idf == pytest.approx(before.idf)


async def test_an_index_that_is_damaged_and_behind_is_made_anew_at_the_start(
    filled: SqliteStore, open_store: Callable[[], SqliteStore], data_dir: Path, tmp_path: Path
) -> None:
    filled.close()
    shutil.copytree(data_dir / "index", tmp_path / "older")
    store = open_store()
    await store.documents.delete(HERE, "d")
    store.close()
    shutil.rmtree(data_dir / "index")
    shutil.copytree(tmp_path / "older", data_dir / "index")
    for segment in index_of(data_dir).glob("*.term"):
        segment.write_bytes(segment.read_bytes()[:10])
    answered = await open_store().retriever.retrieve(HERE, QUERY, CONTEXT)
    assert {hit.document.id for hit in answered.hits} == {"a", "b", "c"}


async def test_many_collections_do_not_hold_a_thread_each(
    open_store: Callable[[], SqliteStore], draft: Any
) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))  # those of tantivy too

    store = open_store()
    before = threads()
    for number in range(200):
        scope = Scope("acme", f"c{number}")
        await store.documents.put(scope, draft("a", f"gate {number}"), replace=False)
    assert threads() - before < 150
    for number in range(200):
        scope = Scope("acme", f"c{number}")
        (hit,) = (await store.retriever.retrieve(scope, Query("gate"), CONTEXT)).hits
        assert hit.passage.text == f"gate {number}"
    # The first ones were let go of meanwhile, and are written to again.
    for number in range(3):
        scope = Scope("acme", f"c{number}")
        await store.documents.put(scope, draft("b", f"lantern {number}"), replace=False)
        found = await store.retriever.retrieve(scope, Query("gate lantern"), CONTEXT)
        assert len(found.hits) == 2
    assert store.rebuilt_indexes == 0


async def test_an_index_that_was_written_last_and_let_go_is_written_to_again(
    open_store: Callable[[], SqliteStore], draft: Any
) -> None:
    store = open_store()
    scopes = [Scope("acme", f"c{number}") for number in range(70)]
    for scope in [*scopes[1:], scopes[0]]:
        await store.documents.put(scope, draft("a", "gate"), replace=False)
    for scope in scopes[1:]:
        await store.retriever.retrieve(scope, Query("gate"), CONTEXT)
    await store.documents.put(scopes[0], draft("b", "gate"), replace=False)
    assert len((await store.retriever.retrieve(scopes[0], Query("gate"), CONTEXT)).hits) == 2
    assert store.rebuilt_indexes == 0
