from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import AlreadyExists
from kotaemon_grpc.core.model import ImportOutcome, IndexingState, Query, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))
ELSEWHERE = (Scope("other", "manuals"), Scope("acme", "letters"))


async def test_a_document_that_was_put_can_be_got_listed_and_found(store: Any, draft: Any) -> None:
    made = draft("guide", "the gate opens at nine", "bring a lantern")
    document, outcome = await store.documents.put(HERE, made, replace=False)
    assert outcome is ImportOutcome.CREATED
    assert document.scope == HERE
    assert document.passage_count == 2
    assert document.indexing_state is IndexingState.INDEXED
    assert document.created_at == document.updated_at
    assert (document.title, document.uri, document.mime_type, document.sha256) == (
        made.title,
        made.uri,
        made.mime_type,
        made.sha256,
    )
    assert await store.documents.get(HERE, "guide") == document
    assert (await store.documents.list(HERE, after="", limit=5)).items == (document,)
    found = await store.retriever.retrieve(HERE, Query("lantern"), CONTEXT)
    assert [hit.passage for hit in found.hits] == [made.passages[1]]


async def test_other_tenants_and_collections_see_and_change_nothing(store: Any, draft: Any) -> None:
    await store.documents.put(HERE, draft("guide", "the gate opens at nine"), replace=False)
    for scope in ELSEWHERE:
        assert await store.documents.get(scope, "guide") is None
        assert (await store.documents.list(scope, after="", limit=5)).items == ()
        assert not await store.documents.collection_exists(scope)
        assert not await store.documents.delete(scope, "guide")
        assert (await store.retriever.retrieve(scope, Query("gate"), CONTEXT)).hits == ()
        _, outcome = await store.documents.put(scope, draft("guide", "a fence"), replace=False)
        assert outcome is ImportOutcome.CREATED
    found = await store.retriever.retrieve(HERE, Query("gate fence"), CONTEXT)
    assert [hit.passage.text for hit in found.hits] == ["the gate opens at nine"]


async def test_a_collection_exists_while_it_holds_a_document(store: Any, draft: Any) -> None:
    assert await store.documents.collection_exists(Scope("acme"))
    assert not await store.documents.collection_exists(HERE)
    await store.documents.put(HERE, draft("guide", "a gate"), replace=False)
    assert await store.documents.collection_exists(HERE)
    await store.documents.delete(HERE, "guide")
    assert not await store.documents.collection_exists(HERE)


async def test_the_same_document_again_is_unchanged(store: Any, draft: Any) -> None:
    first, _ = await store.documents.put(HERE, draft("guide", "a gate"), replace=False)
    again, outcome = await store.documents.put(HERE, draft("guide", "a gate"), replace=True)
    assert outcome is ImportOutcome.UNCHANGED
    assert again == first


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Other"},
        {"uri": "file:///other"},
        {"mime_type": "text/plain"},
        {"sha256": "0" * 64},
    ],
)
async def test_any_difference_replaces_and_keeps_the_time_of_creation(
    store: Any, draft: Any, change: dict[str, str]
) -> None:
    made = draft("guide", "a gate")
    first, _ = await store.documents.put(HERE, made, replace=False)
    second, outcome = await store.documents.put(HERE, replace(made, **change), replace=True)
    assert outcome is ImportOutcome.REPLACED
    assert second.created_at == first.created_at
    assert second.updated_at > first.updated_at
    assert await store.documents.get(HERE, "guide") == second
    hits = (await store.retriever.retrieve(HERE, Query("gate"), CONTEXT)).hits
    assert [(hit.document.title, hit.document.uri) for hit in hits] == [(second.title, second.uri)]


async def test_a_taken_id_is_refused_without_replace(store: Any, draft: Any) -> None:
    first, _ = await store.documents.put(HERE, draft("guide", "a gate"), replace=False)
    for text in ("a fence", "a gate"):
        with pytest.raises(AlreadyExists):
            await store.documents.put(HERE, draft("guide", text), replace=False)
    assert await store.documents.get(HERE, "guide") == first
    assert (await store.retriever.retrieve(HERE, Query("fence"), CONTEXT)).hits == ()


async def test_what_was_replaced_or_deleted_is_not_found_any_more(store: Any, draft: Any) -> None:
    await store.documents.put(HERE, draft("guide", "a gate", "a bridge"), replace=False)
    await store.documents.put(HERE, draft("guide", "a fence"), replace=True)
    found = await store.retriever.retrieve(HERE, Query("gate bridge fence"), CONTEXT)
    assert [hit.passage.text for hit in found.hits] == ["a fence"]
    assert await store.documents.delete(HERE, "guide")
    assert not await store.documents.delete(HERE, "guide")
    assert await store.documents.get(HERE, "guide") is None
    assert (await store.retriever.retrieve(HERE, Query("gate bridge fence"), CONTEXT)).hits == ()


async def test_pages_are_by_id_and_whole(store: Any, draft: Any) -> None:
    ids = [f"d{number}" for number in (3, 1, 5, 2, 4)]
    for document_id in ids:
        await store.documents.put(HERE, draft(document_id, "a gate"), replace=False)
    seen: list[list[str]] = []
    after = ""
    while not seen or after:
        page = await store.documents.list(HERE, after=after, limit=2)
        seen.append([document.id for document in page.items])
        after = page.next_key
    assert seen == [["d1", "d2"], ["d3", "d4"], ["d5"]]
    assert (await store.documents.list(HERE, after="", limit=5)).next_key == ""


async def test_a_hundred_at_once_are_all_kept_and_found(store: Any, draft: Any) -> None:
    async def put(number: int) -> ImportOutcome:
        made = draft(f"d{number}", f"word{number} stands here")
        _, outcome = await store.documents.put(HERE, made, replace=False)
        found = await store.retriever.retrieve(HERE, Query(f"word{number}"), CONTEXT)
        assert [hit.document.id for hit in found.hits] == [f"d{number}"]
        return outcome

    outcomes = await asyncio.gather(*map(put, range(100)))
    assert set(outcomes) == {ImportOutcome.CREATED}
    assert len((await store.documents.list(HERE, after="", limit=1000)).items) == 100


async def test_one_of_many_at_once_gets_a_contested_id(
    store: Any, draft: Callable[..., Any]
) -> None:
    puts = (
        store.documents.put(HERE, draft("guide", f"version{n}"), replace=False) for n in range(20)
    )
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(result, AlreadyExists) for result in results) == 19
    assert len((await store.retriever.retrieve(HERE, Query("guide"), CONTEXT)).hits) == 1
