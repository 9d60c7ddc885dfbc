"""Kept conversations, with a fake store."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.conversation import Conversation, Turn
from kotaemon_grpc.core.converse import Conversing
from kotaemon_grpc.core.model import Answer, FinishReason
from kotaemon_grpc.core.paging import PageTokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kotaemon_grpc.core.once import Once

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
ANSWER = Answer("…", (), FinishReason.ANSWERED)
COLLECTIONS = ["default", "board", "board", "default", "board", "default", "board"]


class FakeConversations:
    """Has one conversation, whose turns are about `COLLECTIONS`."""

    async def get(self, tenant: str, conversation_id: str) -> Conversation | None:
        del tenant
        return Conversation(conversation_id, "q1", len(COLLECTIONS), NOW, NOW, COLLECTIONS[0])

    async def turns(
        self, tenant: str, conversation_id: str, *, after: int, limit: int
    ) -> Sequence[Turn]:
        del tenant, conversation_id
        turns = [Turn(n, name, f"q{n}", ANSWER, NOW) for n, name in enumerate(COLLECTIONS, 1)]
        return turns[after : after + limit]


@pytest.fixture
def conversing(once: Once) -> Conversing:
    return Conversing(
        conversations=FakeConversations(),  # type: ignore[arg-type]
        once=once,
        tokens=PageTokens(b"k" * 32),
        new_id=str,
    )


async def listed(conversing: Conversing, caller: Caller, limit: int) -> list[list[int]]:
    pages = []
    token = ""
    while True:
        page = await conversing.turns(caller, "c", token=token, limit=limit)
        pages.append([turn.number for turn in page.items])
        token = page.next_key
        if not token:
            return pages


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_leave_out_the_turns_that_the_caller_may_not_see(
    conversing: Conversing, limit: int
) -> None:
    pages = await listed(conversing, Caller("staff", "acme", ("default",)), limit)
    assert [number for page in pages for number in page] == [1, 4, 6]
    assert len(pages) == -(-len(COLLECTIONS) // limit)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_who_may_see_all_collections_sees_all_turns(
    conversing: Conversing, limit: int
) -> None:
    pages = await listed(conversing, Caller("boss", "acme"), limit)
    assert [number for page in pages for number in page] == [1, 2, 3, 4, 5, 6, 7]
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize(("collections", "title"), [(("*",), "q1"), (("d*",), "q1"), (("b*",), "")])
async def test_a_title_is_hidden_with_the_collection_that_it_is_about(
    conversing: Conversing, collections: tuple[str, ...], title: str
) -> None:
    assert (await conversing.get(Caller("staff", "acme", collections), "c")).title == title
