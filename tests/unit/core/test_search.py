"""Searching, with a fake retriever that has many passages."""

from __future__ import annotations

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import InvalidArgument, NotFound
from kotaemon_grpc.core.model import DocumentRef, Hit, Location, Passage, Query, Retrieval, Scope
from kotaemon_grpc.core.paging import Page, PageTokens
from kotaemon_grpc.core.search import Searching

HERE = Scope("acme")
CONTEXT = Context(Caller("someone", "acme"))


class FakeRetriever:
    """Finds passages that are numbered by their rank."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.contexts: list[Context] = []

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        self.contexts.append(context)
        ranks = range(self.count)[query.offset : query.offset + query.limit]
        document = DocumentRef("d", scope, "Title", "urn:d")
        passages = [(Passage(str(rank), Location((), 0, 1)), rank) for rank in ranks]
        return Retrieval(tuple(Hit(document, p, 1 / (rank + 1)) for p, rank in passages), {})


class FakeDocuments:
    async def collection_exists(self, scope: Scope) -> bool:
        return scope.collection == "default"


def searching(count: int, retriever: FakeRetriever | None = None) -> Searching:
    return Searching(
        retriever=retriever or FakeRetriever(count),
        documents=FakeDocuments(),  # type: ignore[arg-type]
        tokens=PageTokens(b"k" * 32),
    )


def ranks_of(page: Page[Hit]) -> list[int]:
    return [int(hit.passage.text) for hit in page.items]


@pytest.mark.parametrize(
    ("count", "size", "pages"),
    [
        (0, 10, [0]),
        (9, 10, [9]),
        (10, 10, [10]),
        (11, 10, [10, 1]),
        (5, 2, [2, 2, 1]),
        (1000, 100, [100] * 10),
        (5000, 100, [100] * 10),
        (5000, 7, [7] * 142 + [6]),
    ],
)
async def test_pages_go_on_until_nothing_is_left_or_a_thousand_were_seen(
    count: int, size: int, pages: list[int]
) -> None:
    use_case = searching(count)
    seen: list[list[int]] = []
    token = ""
    while not seen or token:
        page = await use_case.search(HERE, Query("q", limit=size), CONTEXT, token=token)
        seen.append(ranks_of(page))
        token = page.next_key
    assert [len(ranks) for ranks in seen] == pages
    assert [rank for ranks in seen for rank in ranks] == list(range(min(count, 1000)))


async def test_the_size_may_change_from_page_to_page() -> None:
    use_case = searching(50)
    first = await use_case.search(HERE, Query("q", limit=3), CONTEXT)
    second = await use_case.search(HERE, Query("q", limit=5), CONTEXT, token=first.next_key)
    assert ranks_of(second) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("scope", "text"),
    [(HERE, "other"), (Scope("other"), "q"), (Scope("acme", "letters"), "q")],
)
async def test_a_token_is_good_for_one_search(scope: Scope, text: str) -> None:
    use_case = searching(50)
    token = (await use_case.search(HERE, Query("q"), CONTEXT)).next_key
    with pytest.raises(InvalidArgument):
        await use_case.search(scope, Query(text), CONTEXT, token=token)


async def test_an_unknown_collection_is_not_found() -> None:
    with pytest.raises(NotFound):
        await searching(1).search(Scope("acme", "attic"), Query("q"), CONTEXT)


async def test_the_retriever_is_told_until_when_passages_are_of_use() -> None:
    retriever = FakeRetriever(1)
    until = Context(CONTEXT.caller, deadline_s=60.0)
    await searching(1, retriever).search(HERE, Query("q"), until)
    assert retriever.contexts == [until]
