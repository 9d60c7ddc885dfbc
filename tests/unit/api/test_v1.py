from __future__ import annotations

import pytest

from kotaemon_grpc.api.v1 import question_from_pb, reference_of
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.model import Citation, DocumentRef, Location, Scope
from kotaemon_grpc.pb.v1 import agent_pb2 as pb

CALLER = Caller("someone", "acme")


def citation(uri: str) -> Citation:
    document = DocumentRef("d", Scope("acme"), "Title", uri)
    return Citation(document, Location(("Heading",), 3, 9), "snippet", 1.0, ())


@pytest.mark.parametrize(
    ("uri", "reference"),
    [
        ("file:///a.md", "file:///a.md#char=3,9"),
        ("https://h/a?q=1#part", "https://h/a?q=1#char=3,9"),
        ("kotaemon:collections/c/documents/d", "kotaemon:collections/c/documents/d#char=3,9"),
    ],
)
def test_a_reference_is_the_uri_with_the_place_as_its_fragment(uri: str, reference: str) -> None:
    assert reference_of(citation(uri)) == reference


def test_the_keys_that_have_a_meaning_are_not_passed_to_the_engine() -> None:
    context = {
        "collection": "collections/c",
        "conversation": "conversations/talk",
        "language": "de",
        "other": "x",
    }
    question, conversation = question_from_pb(
        pb.QuestionRequest(query="why?", context=context), CALLER
    )
    assert conversation == "talk"
    assert question.scope == Scope("acme", "c")
    assert (question.language, question.context) == ("de", {"other": "x"})


def test_without_a_context_the_default_collection_is_asked() -> None:
    question, conversation = question_from_pb(pb.QuestionRequest(query="why?"), CALLER)
    assert (question.scope, question.language, conversation) == (Scope("acme"), "", "")
