"""kotaemon.v2.RetrievalService."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc


BROAD = "the harbour and the boat"


@pytest.fixture
def retrieval(channel: grpc.aio.Channel) -> stubs.RetrievalServiceStub:
    return stubs.RetrievalServiceStub(channel)


async def test_passages_come_best_first_as_they_stand_in_the_document(
    retrieval: stubs.RetrievalServiceStub, text_at: Callable[[str], str]
) -> None:
    response = await retrieval.Search(pb.SearchRequest(query="fire drill on the vessels"))
    results = response.results
    assert 1 < len(results) <= 10
    scores = [result.score for result in results]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0
    for result in results:
        place = result.location
        assert text_at(result.uri)[place.start_offset : place.end_offset] == result.text != ""
        assert result.document.startswith("collections/default/documents/")
        assert result.title


async def test_the_right_document_comes_first(
    retrieval: stubs.RetrievalServiceStub, questions: dict[str, Any]
) -> None:
    wrong = []
    for question in questions["answerable"]:
        response = await retrieval.Search(pb.SearchRequest(query=question["question"], page_size=1))
        if not response.results[0].uri.endswith(f"/{question['document']}"):
            wrong.append(question["question"])
    assert len(wrong) <= 3, wrong


async def test_no_more_results_come_than_are_wanted(
    retrieval: stubs.RetrievalServiceStub,
) -> None:
    counts = []
    for page_size in (1, 3, 0, 100, 101, 2**31 - 1):
        request = pb.SearchRequest(query=BROAD, page_size=page_size)
        counts.append(len((await retrieval.Search(request)).results))
    assert counts[:3] == [1, 3, 10]
    assert 10 < counts[3] <= 100
    assert counts[3:] == [counts[3]] * 3


async def test_pages_joined_are_what_one_page_has(retrieval: stubs.RetrievalServiceStub) -> None:
    whole = await retrieval.Search(pb.SearchRequest(query=BROAD, page_size=100))
    assert whole.next_page_token == ""
    found, sizes = [], []
    request = pb.SearchRequest(query=BROAD, page_size=7)
    while not sizes or request.page_token:
        page = await retrieval.Search(request)
        found += page.results
        sizes.append(len(page.results))
        request.page_token = page.next_page_token
    assert found == list(whole.results)
    assert set(sizes[:-1]) == {7}
    exact = await retrieval.Search(pb.SearchRequest(query=BROAD, page_size=len(found)))
    assert exact.next_page_token == ""


async def test_a_page_token_works_for_its_own_search_alone(
    retrieval: stubs.RetrievalServiceStub, channel: grpc.aio.Channel, failure_of: Any
) -> None:
    page = await retrieval.Search(pb.SearchRequest(query=BROAD, page_size=1))
    token = page.next_page_token
    documents = stubs.DocumentServiceStub(channel)
    for call in (
        retrieval.Search(pb.SearchRequest(query=f"{BROAD} ", page_token=token)),
        retrieval.Search(
            pb.SearchRequest(query=BROAD, collection="collections/other", page_token=token)
        ),
        retrieval.Search(pb.SearchRequest(query=BROAD, page_token=f"{token}A")),
        documents.ListDocuments(
            pb.ListDocumentsRequest(parent="collections/default", page_token=token)
        ),
    ):
        failure = await failure_of(call)
        assert failure.code == "INVALID_ARGUMENT"
        assert list(failure.violations) == ["page_token"]


async def test_what_is_in_no_document_is_not_found(
    retrieval: stubs.RetrievalServiceStub,
) -> None:
    assert not (await retrieval.Search(pb.SearchRequest(query="xylophonist"))).results
