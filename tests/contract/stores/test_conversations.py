from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kotaemon_grpc.core.errors import AlreadyExists, NotFound


async def test_a_conversation_that_was_created_can_be_got(store: Any) -> None:
    made = await store.conversations.create("acme", "talk", "Gates")
    assert (made.id, made.title, made.turn_count) == ("talk", "Gates", 0)
    assert await store.conversations.get("acme", "talk") == made
    with pytest.raises(AlreadyExists):
        await store.conversations.create("acme", "talk", "Fences")
    assert await store.conversations.get("acme", "talk") == made


async def test_other_tenants_see_and_change_nothing(store: Any, turn: Any) -> None:
    conversations = store.conversations
    await conversations.create("acme", "talk", "Gates")
    await conversations.append("acme", "talk", turn("where?"))
    assert await conversations.get("other", "talk") is None
    assert (await conversations.list("other", after="", limit=5)).items == ()
    assert not await conversations.delete("other", "talk")
    with pytest.raises(NotFound):
        await conversations.append("other", "talk", turn("who?"))
    await conversations.create("other", "talk", "Own")
    assert list(await conversations.turns("other", "talk", after=0, limit=5)) == []
    assert list(await conversations.latest_turns("other", "talk", 5)) == []
    assert len(await conversations.turns("acme", "talk", after=0, limit=5)) == 1


async def test_turns_come_back_as_they_were(store: Any, turn: Any) -> None:
    await store.conversations.create("acme", "talk", "")
    first = await store.conversations.append("acme", "talk", turn("where?", 1))
    second = await store.conversations.append("acme", "talk", turn("when?", 2))
    assert first == replace(turn("where?", 1), number=1)
    assert second == replace(turn("when?", 2), number=2)
    assert list(await store.conversations.turns("acme", "talk", after=0, limit=5)) == [
        first,
        second,
    ]
    conversation = await store.conversations.get("acme", "talk")
    assert conversation.turn_count == 2
    assert conversation.updated_at == second.created_at


async def test_a_conversation_can_come_into_being_with_its_first_turn(
    store: Any, turn: Any
) -> None:
    first = await store.conversations.append("acme", "talk", turn("where is it?", 1), create=True)
    assert first == replace(turn("where is it?", 1), number=1)
    made = await store.conversations.get("acme", "talk")
    assert (made.title, made.turn_count) == ("where is it?", 1)
    assert made.created_at == made.updated_at == first.created_at
    assert await store.conversations.append("acme", "talk", turn("when?"))


async def test_a_conversation_that_exists_is_not_created_by_a_turn(store: Any, turn: Any) -> None:
    made = await store.conversations.create("acme", "talk", "Gates")
    with pytest.raises(AlreadyExists):
        await store.conversations.append("acme", "talk", turn("where?"), create=True)
    assert await store.conversations.get("acme", "talk") == made
    assert list(await store.conversations.turns("acme", "talk", after=0, limit=5)) == []


async def test_nothing_is_left_of_a_conversation_whose_first_turn_fails(
    store: Any, turn: Any
) -> None:
    # A lone surrogate is no text that any store can keep.
    broken = turn("\ud800")
    with pytest.raises(Exception, match="surrogates"):
        await store.conversations.append("acme", "talk", broken, create=True)
    assert await store.conversations.get("acme", "talk") is None
    assert (await store.conversations.list("acme", after="", limit=5)).items == ()
    assert (await store.conversations.append("acme", "talk", turn("a"), create=True)).number == 1


async def test_turns_are_paged_and_the_latest_are_given_in_order(store: Any, turn: Any) -> None:
    await store.conversations.create("acme", "talk", "")
    for number in range(1, 6):
        await store.conversations.append("acme", "talk", turn(f"q{number}"))
    page = await store.conversations.turns("acme", "talk", after=2, limit=2)
    assert [t.question for t in page] == ["q3", "q4"]
    latest = await store.conversations.latest_turns("acme", "talk", 2)
    assert [t.question for t in latest] == ["q4", "q5"]


async def test_the_first_question_becomes_the_title_of_one_without(store: Any, turn: Any) -> None:
    conversations = store.conversations
    await conversations.create("acme", "new", "")
    await conversations.append("acme", "new", turn("How  do\nI open " + "x" * 100))
    await conversations.append("acme", "new", turn("second"))
    title = (await conversations.get("acme", "new")).title
    assert title == ("How do I open " + "x" * 100)[:80]
    await conversations.create("acme", "named", "Gates")
    await conversations.append("acme", "named", turn("first"))
    assert (await conversations.get("acme", "named")).title == "Gates"


async def test_a_conversation_has_the_collection_of_its_first_turn(store: Any, turn: Any) -> None:
    conversations = store.conversations
    assert (await conversations.create("acme", "c", "")).collection == ""
    await conversations.append("acme", "c", replace(turn("first"), collection="board"))
    await conversations.append("acme", "c", replace(turn("second"), collection="staff"))
    assert (await conversations.get("acme", "c")).collection == "board"
    listed = await conversations.list("acme", after="", limit=1)
    assert [each.collection for each in listed.items] == ["board"]


async def test_the_list_is_newest_first_and_paged(store: Any) -> None:
    for name in ("b", "c", "a"):
        await store.conversations.create("acme", name, "")
    first = await store.conversations.list("acme", after="", limit=2)
    assert [c.id for c in first.items] == ["a", "c"]
    last = await store.conversations.list("acme", after=first.next_key, limit=2)
    assert [c.id for c in last.items] == ["b"]
    assert last.next_key == ""


async def test_a_deleted_conversation_is_gone_with_its_turns(store: Any, turn: Any) -> None:
    conversations = store.conversations
    await conversations.create("acme", "talk", "")
    await conversations.append("acme", "talk", turn("where?"))
    assert await conversations.delete("acme", "talk")
    assert not await conversations.delete("acme", "talk")
    with pytest.raises(NotFound):
        await conversations.append("acme", "talk", turn("when?"))
    await conversations.create("acme", "talk", "")
    assert list(await conversations.turns("acme", "talk", after=0, limit=5)) == []


async def test_turns_appended_at_once_get_numbers_without_gaps(store: Any, turn: Any) -> None:
    await store.conversations.create("acme", "talk", "")
    appended = await asyncio.gather(
        *(store.conversations.append("acme", "talk", turn(f"q{n}")) for n in range(30))
    )
    assert sorted(t.number for t in appended) == list(range(1, 31))
