"""What a claim did is done once, and its outcome is there with the change or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import AlreadyExists, NotFound, RequestIdReused
from kotaemon_grpc.core.model import Answer, FinishReason, ImportOutcome, Query, Scope, Usage
from kotaemon_grpc.core.once import AlreadyDone, Answered, Claim, Deleted, Stored

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HERE = Scope("acme", "manuals")
CLAIM = Claim("acme", "someone", "r-1", b"\x01" * 32)
OTHER_CONTENT = replace(CLAIM, fingerprint=b"\x02" * 32, field="message.request_id")
OTHERS = [
    replace(CLAIM, tenant="other"),
    replace(CLAIM, principal="somebody"),
    replace(CLAIM, request_id="r-2"),
]
ANSWER = Answered(Answer("nothing", (), FinishReason.NOTHING_FOUND, Usage(passages=3)))


class Writes:
    """Each method that writes, with a claim, and what comes of it."""

    def __init__(self, store: Any, draft: Any, turn: Any) -> None:
        self.store = store
        self.draft = draft
        self.turn = turn

    async def prepare(self) -> None:
        await self.store.conversations.create("acme", "old", "Gates")
        await self.store.documents.put(HERE, self.draft("old", "a gate"), replace=False)

    async def create(self, claim: Claim) -> Any:
        return await self.store.conversations.create("acme", "new", "Fences", claim=claim)

    async def append(self, claim: Claim) -> Any:
        turn = await self.store.conversations.append("acme", "old", self.turn("a"), claim=claim)
        return Answered(turn.answer, "old")

    async def append_first(self, claim: Claim) -> Any:
        turn = await self.store.conversations.append(
            "acme", "new", self.turn("a"), create=True, claim=claim
        )
        return Answered(turn.answer, "new")

    async def delete_conversation(self, claim: Claim) -> Any:
        assert await self.store.conversations.delete("acme", "old", claim=claim)
        return Deleted()

    async def put(self, claim: Claim) -> Any:
        draft = self.draft("new", "a fence")
        return Stored(*await self.store.documents.put(HERE, draft, replace=False, claim=claim))

    async def put_again(self, claim: Claim) -> Any:
        draft = self.draft("old", "a gate")
        stored = Stored(*await self.store.documents.put(HERE, draft, replace=True, claim=claim))
        assert stored.outcome is ImportOutcome.UNCHANGED
        return stored

    async def delete_document(self, claim: Claim) -> Any:
        assert await self.store.documents.delete(HERE, "old", claim=claim)
        return Deleted()

    async def remember(self, claim: Claim) -> Any:
        await self.store.requests.remember(claim, ANSWER)
        return ANSWER

    async def state(self) -> Any:
        """All that a write could change."""
        conversations = await self.store.conversations.list("acme", after="", limit=9)
        documents = await self.store.documents.list(HERE, after="", limit=9)
        turns = [
            await self.store.conversations.turns("acme", each.id, after=0, limit=9)
            for each in conversations.items
        ]
        return conversations, documents, turns


METHODS = [
    "create",
    "append",
    "append_first",
    "delete_conversation",
    "put",
    "put_again",
    "delete_document",
    "remember",
]


@pytest.fixture
async def writes(store: Any, draft: Any, turn: Any) -> Writes:
    made = Writes(store, draft, turn)
    await made.prepare()
    return made


@pytest.mark.parametrize("method", METHODS)
async def test_a_claim_has_its_outcome_once_its_change_is_made(writes: Writes, method: str) -> None:
    assert await writes.store.requests.outcome(CLAIM) is None
    outcome = await getattr(writes, method)(CLAIM)
    assert await writes.store.requests.outcome(CLAIM) == outcome


@pytest.mark.parametrize("method", METHODS)
async def test_a_claim_that_has_an_outcome_changes_nothing(writes: Writes, method: str) -> None:
    outcome = await getattr(writes, method)(CLAIM)
    state = await writes.state()
    for other in METHODS:
        with pytest.raises(AlreadyDone):
            await getattr(writes, other)(CLAIM)
    assert await writes.state() == state
    assert await writes.store.requests.outcome(CLAIM) == outcome


@pytest.mark.parametrize("method", METHODS)
async def test_an_id_with_other_content_is_refused_and_changes_nothing(
    writes: Writes, method: str
) -> None:
    await writes.remember(CLAIM)
    state = await writes.state()
    for refused in (getattr(writes, method), writes.store.requests.outcome):
        with pytest.raises(RequestIdReused) as raised:
            await refused(OTHER_CONTENT)
        assert [each.field for each in raised.value.violations] == ["message.request_id"]
    assert await writes.state() == state


@pytest.mark.parametrize("other", OTHERS, ids=["tenant", "principal", "id"])
async def test_an_outcome_is_that_of_one_caller_and_one_id(store: Any, other: Claim) -> None:
    await store.requests.remember(CLAIM, ANSWER)
    assert await store.requests.outcome(other) is None
    await store.requests.remember(other, Deleted())
    assert await store.requests.outcome(other) == Deleted()
    assert await store.requests.outcome(CLAIM) == ANSWER


@pytest.mark.parametrize("method", METHODS)
async def test_an_outcome_outlives_the_store(
    writes: Writes, reopen: Callable[[], Awaitable[Any]], method: str
) -> None:
    outcome = await getattr(writes, method)(CLAIM)
    writes.store = await reopen()
    assert await writes.store.requests.outcome(CLAIM) == outcome
    with pytest.raises(AlreadyDone):
        await getattr(writes, method)(CLAIM)


@pytest.mark.parametrize("method", METHODS)
async def test_of_many_at_once_one_makes_the_change(writes: Writes, method: str) -> None:
    attempts = [getattr(writes, method)(CLAIM) for _ in range(20)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    made = [result for result in results if not isinstance(result, AlreadyDone)]
    assert made == [await writes.store.requests.outcome(CLAIM)]


async def test_what_failed_has_no_outcome(writes: Writes) -> None:
    store, turn = writes.store, writes.turn("a")
    with pytest.raises(AlreadyExists):
        await store.conversations.create("acme", "old", "", claim=CLAIM)
    with pytest.raises(NotFound):
        await store.conversations.append("acme", "none", turn, claim=CLAIM)
    with pytest.raises(AlreadyExists):
        await store.conversations.append("acme", "old", turn, create=True, claim=CLAIM)
    with pytest.raises(AlreadyExists):
        await store.documents.put(HERE, writes.draft("old", "x"), replace=False, claim=CLAIM)
    assert not await store.conversations.delete("acme", "none", claim=CLAIM)
    assert not await store.documents.delete(HERE, "none", claim=CLAIM)
    assert await store.requests.outcome(CLAIM) is None
    await writes.put(CLAIM)


async def test_a_document_that_was_taken_in_before_can_be_found(writes: Writes) -> None:
    first = await writes.put(CLAIM)
    assert await writes.store.requests.outcome(CLAIM) == first
    context = Context(Caller("someone", HERE.tenant))
    found = await writes.store.retriever.retrieve(HERE, Query("fence"), context)
    assert [hit.document.id for hit in found.hits] == ["new"]


async def test_an_answer_goes_with_the_conversation_that_keeps_it(
    writes: Writes, turn: Any
) -> None:
    async def is_gone() -> None:
        with pytest.raises(NotFound) as raised:
            await writes.store.requests.outcome(CLAIM)
        assert raised.value.name == "conversations/new"
        with pytest.raises(AlreadyDone):
            await writes.append_first(CLAIM)

    await writes.append_first(CLAIM)
    await writes.store.conversations.delete("acme", "new")
    await is_gone()
    # Another conversation of the same id has other turns.
    await writes.store.conversations.append("acme", "new", turn("b", minute=1), create=True)
    await is_gone()


@pytest.fixture
async def answered(writes: Writes, turn: Any) -> Any:
    """Return an answer that cites two documents, and is remembered and kept nowhere else."""
    for name in ("guide", "map"):
        await writes.store.documents.put(HERE, writes.draft(name, "the key"), replace=False)
    answer = turn("a").answer
    (citation,) = answer.citations
    other = replace(citation, document=replace(citation.document, id="map"))
    answered = Answered(replace(answer, citations=(citation, other, citation)))
    await writes.store.requests.remember(CLAIM, answered)
    return answered


async def delete(writes: Writes, name: str) -> None:
    assert await writes.store.documents.delete(HERE, name)


async def replace_(writes: Writes, name: str) -> None:
    await writes.store.documents.put(HERE, writes.draft(name, "a lock"), replace=True)


async def delete_and_put_again(writes: Writes, name: str) -> None:
    await delete(writes, name)
    await writes.store.documents.put(HERE, writes.draft(name, "the key"), replace=False)


@pytest.mark.parametrize("change", [delete, replace_, delete_and_put_again])
@pytest.mark.parametrize("name", ["guide", "map"])
async def test_an_answer_that_cites_what_was_changed_is_forgotten(
    writes: Writes,
    answered: Any,
    reopen: Callable[[], Awaitable[Any]],
    change: Callable[[Writes, str], Awaitable[None]],
    name: str,
) -> None:
    assert await writes.store.requests.outcome(CLAIM) == answered
    await change(writes, name)
    assert await writes.store.requests.outcome(CLAIM) is None
    with pytest.raises(RequestIdReused):
        await writes.store.requests.outcome(OTHER_CONTENT)
    writes.store = await reopen()
    assert await writes.store.requests.outcome(CLAIM) is None
    await writes.remember(CLAIM)
    assert await writes.store.requests.outcome(CLAIM) == ANSWER
    with pytest.raises(AlreadyDone):
        await writes.remember(CLAIM)


async def test_an_answer_is_not_forgotten_for_what_it_does_not_cite(
    writes: Writes, answered: Any
) -> None:
    await delete(writes, "old")
    await writes.put(replace(CLAIM, request_id="r-2"))
    unchanged = writes.draft("guide", "the key")
    assert (await writes.store.documents.put(HERE, unchanged, replace=True))[1] is (
        ImportOutcome.UNCHANGED
    )
    elsewhere = Scope("other", HERE.collection)
    await writes.store.documents.put(elsewhere, writes.draft("guide", "a lock"), replace=True)
    assert await writes.store.requests.outcome(CLAIM) == answered


async def test_what_is_older_than_the_window_is_forgotten(store: Any, clock: Any) -> None:
    old = [replace(CLAIM, request_id=f"old-{number}") for number in range(2_500)]
    before = clock()
    await asyncio.gather(*(store.requests.remember(claim, ANSWER) for claim in old))
    between = clock()
    await store.requests.remember(CLAIM, ANSWER)
    assert await store.purge_requests(before) == 0
    assert await store.purge_requests(between) == len(old)
    assert await store.requests.outcome(old[0]) is None
    assert await store.requests.outcome(CLAIM) == ANSWER
