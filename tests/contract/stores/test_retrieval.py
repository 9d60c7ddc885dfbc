from __future__ import annotations

import math
from typing import Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import DeadlineExceeded
from kotaemon_grpc.core.model import Query, Scope

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))

TEXTS = {
    "rotation": "Certificates are rotated every ninety days by the agent.",
    "backup": "The backup runs at midnight and keeps seven copies.",
    "mtls": "双向认证要求客户端提供证书。",
    "cache": "缓存的默认大小是十二兆字节。",
}


@pytest.fixture
async def filled(store: Any, draft: Any) -> Any:
    for document_id, text in TEXTS.items():
        await store.documents.put(HERE, draft(document_id, text), replace=False)
    return store


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("How often is a certificate rotated?", "rotation"),
        ("when do the backups run", "backup"),
        ("客户端需要什么证书", "mtls"),
        ("缓存默认多大", "cache"),
    ],
)
async def test_the_passage_that_answers_comes_first(filled: Any, question: str, best: str) -> None:
    hits = (await filled.retriever.retrieve(HERE, Query(question), CONTEXT)).hits
    assert hits[0].document.id == best
    assert hits[0].passage.text == TEXTS[best]
    assert hits[0].passage.location.headings == ("Guide",)
    assert hits[0].document.scope == HERE
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0


@pytest.mark.parametrize("question", ["xylophone", "?!", "   "])
async def test_nothing_that_fits_means_no_hits(filled: Any, question: str) -> None:
    assert (await filled.retriever.retrieve(HERE, Query(question), CONTEXT)).hits == ()


async def test_there_are_no_more_hits_than_the_limit(filled: Any, draft: Any) -> None:
    for number in range(9):
        await filled.documents.put(HERE, draft(f"copy{number}", "a backup"), replace=False)
    for limit in (1, 3, 7):
        hits = (await filled.retriever.retrieve(HERE, Query("backup", limit=limit), CONTEXT)).hits
        assert len(hits) == limit


async def test_the_best_can_be_passed_over(filled: Any, draft: Any) -> None:
    for number in range(30):
        text = "a backup" + " of things" * (number % 3)
        await filled.documents.put(HERE, draft(f"copy{number}", text), replace=False)
    whole = (await filled.retriever.retrieve(HERE, Query("backup", limit=50), CONTEXT)).hits
    assert len(whole) == 31
    for limit in (1, 4, 31):
        paged = []
        for offset in range(0, 40, limit):
            query = Query("backup", limit=limit, offset=offset)
            paged += (await filled.retriever.retrieve(HERE, query, CONTEXT)).hits
        assert tuple(paged) == whole


async def test_deleted_passages_make_room_for_the_next_best(filled: Any, draft: Any) -> None:
    for number in range(8):
        await filled.documents.put(HERE, draft(f"copy{number}", "a backup"), replace=False)
    for number in range(7):
        await filled.documents.delete(HERE, f"copy{number}")
    hits = (await filled.retriever.retrieve(HERE, Query("backup", limit=2), CONTEXT)).hits
    assert {hit.document.id for hit in hits} == {"copy7", "backup"}


async def test_idf_is_that_of_bm25_in_the_scope(filled: Any, draft: Any) -> None:
    await filled.documents.put(Scope("other"), draft("many", *["backup"] * 50), replace=False)
    idf = (await filled.retriever.retrieve(HERE, Query("backup guide xylophone"), CONTEXT)).idf
    assert idf == pytest.approx(
        {
            "backup": math.log(1 + 3.5 / 1.5),
            "guid": math.log(1 + 0.5 / 4.5),
            "xylophon": math.log(1 + 4.5 / 0.5),
        }
    )


async def test_what_was_replaced_does_not_count(store: Any, draft: Any) -> None:
    for number in range(5):
        await store.documents.put(HERE, draft("only", f"backup number {number}"), replace=True)
    idf = (await store.retriever.retrieve(HERE, Query("backup"), CONTEXT)).idf
    assert idf["backup"] == pytest.approx(math.log(1 + 0.5 / 1.5))


async def test_idf_of_an_empty_scope_is_above_zero(store: Any) -> None:
    retrieval = await store.retriever.retrieve(HERE, Query("backup"), CONTEXT)
    assert retrieval.hits == ()
    assert retrieval.idf["backup"] > 0


async def test_history_supports_with_less_weight(filled: Any) -> None:
    alone = (await filled.retriever.retrieve(HERE, Query("midnight"), CONTEXT)).hits
    both = await filled.retriever.retrieve(
        HERE, Query("midnight", history=("certificates",)), CONTEXT
    )
    assert [hit.document.id for hit in alone] == ["backup"]
    assert [hit.document.id for hit in both.hits] == ["backup", "rotation"]
    asked = (await filled.retriever.retrieve(HERE, Query("certificates"), CONTEXT)).hits[0]
    assert both.hits[1].score < asked.score
    assert set(both.idf) == {"midnight", "certif"}


async def test_nothing_is_looked_for_once_the_time_is_up(filled: Any) -> None:
    late = Context(CONTEXT.caller, deadline_s=0.0)
    with pytest.raises(DeadlineExceeded):
        await filled.retriever.retrieve(HERE, Query("backup"), late)
