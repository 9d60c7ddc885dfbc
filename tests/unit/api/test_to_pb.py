from __future__ import annotations

import datetime as dt

import pytest

from kotaemon_grpc.api.v2 import to_pb
from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.model import (
    Answer,
    Citation,
    Document,
    DocumentRef,
    FinishReason,
    ImportOutcome,
    IndexingState,
    Location,
    Scope,
    Span,
    Usage,
)
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

TIME = dt.datetime(2024, 5, 1, 12, 30, 15, 250_000, tzinfo=dt.timezone(dt.timedelta(hours=2)))
CITATION = Citation(
    DocumentRef("d", Scope("acme", "c"), "Title", "urn:d"),
    Location(("One", "Two"), 3, 9),
    "snippet",
    0.5,
    (Span(0, 7), Span(9, 16)),
)
ANSWER = Answer("snippet, snippet", (CITATION,), FinishReason.ANSWERED, Usage(1, 2, 3))


def test_an_answer_has_all_its_parts() -> None:
    message = to_pb.answer_to_pb(ANSWER)
    (citation,) = message.citations
    assert message.text == ANSWER.text
    assert message.usage == pb.Usage(input_tokens=1, output_tokens=2, passages=3)
    assert citation.document == "collections/c/documents/d"
    assert (citation.title, citation.uri, citation.snippet) == ("Title", "urn:d", "snippet")
    assert citation.location == pb.Location(headings=["One", "Two"], start_offset=3, end_offset=9)
    assert [(span.start_offset, span.end_offset) for span in citation.spans] == [(0, 7), (9, 16)]
    assert citation.score == 0.5


def test_tokens_that_are_not_known_are_absent_and_none_is_not() -> None:
    unknown = to_pb.answer_to_pb(Answer("", (), FinishReason.ANSWERED)).usage
    assert not unknown.HasField("input_tokens")
    assert not unknown.HasField("output_tokens")
    none = to_pb.answer_to_pb(Answer("", (), FinishReason.ANSWERED, Usage(0, 0))).usage
    assert none.HasField("input_tokens")
    assert none.HasField("output_tokens")


@pytest.mark.parametrize("reason", FinishReason)
def test_every_finish_reason_has_its_name(reason: FinishReason) -> None:
    message = to_pb.answer_to_pb(Answer("", (), reason))
    assert pb.FinishReason.Name(message.finish_reason) == f"FINISH_REASON_{reason.name}"


@pytest.mark.parametrize("outcome", ImportOutcome)
def test_every_outcome_has_its_name(outcome: ImportOutcome) -> None:
    assert pb.ImportOutcome.Name(to_pb.outcome_to_pb(outcome)) == f"IMPORT_OUTCOME_{outcome.name}"


@pytest.mark.parametrize("state", IndexingState)
def test_a_document_has_all_its_parts(state: IndexingState) -> None:
    document = Document(
        "d", Scope("acme", "c"), "T", "urn:d", "text/plain", 2**40, "0" * 64, 7, state, TIME, TIME
    )
    message = to_pb.document_to_pb(document)
    assert message.name == "collections/c/documents/d"
    assert (message.title, message.uri, message.mime_type) == ("T", "urn:d", "text/plain")
    assert (message.size_bytes, message.sha256, message.passage_count) == (2**40, "0" * 64, 7)
    assert pb.IndexingState.Name(message.indexing_state) == f"INDEXING_STATE_{state.name}"
    assert message.create_time.ToDatetime(dt.UTC) == TIME


def test_a_turn_is_named_by_its_number() -> None:
    message = to_pb.turn_to_pb("c", Turn(12, "attic", "why?", ANSWER, TIME))
    assert message.name == "conversations/c/turns/12"
    assert (message.collection, message.question) == ("collections/attic", "why?")
    assert message.answer == to_pb.answer_to_pb(ANSWER)
    assert message.create_time.ToDatetime(dt.UTC) == TIME


def test_no_conversation_has_no_name() -> None:
    assert to_pb.conversation_name("") == ""
