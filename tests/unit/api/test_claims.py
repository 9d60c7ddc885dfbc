"""When two requests are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.api.v2.agent import turn_claim_of
from kotaemon_grpc.api.v2.claims import claim_of
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kotaemon_grpc.core.once import Claim

CALLER = Caller("someone", "acme")
GUIDE = pb.Document(title="Guide")
REQUESTS: dict[Any, tuple[Mapping[str, Any], ...]] = {
    pb.AskQuestionRequest: (
        {"question": "a"},
        {"collection": "collections/c"},
        {"conversation": "conversations/-"},
        {"language_code": "en"},
        {"context": {"a": "1"}},
        {"context": {"a": "2"}},
    ),
    pb.StreamAnswerRequest: ({"question": "a"}, {"context": {"a": "1"}}),
    pb.ChatMessage: ({"question": "a"}, {"question": "b"}),
    pb.CreateConversationRequest: (
        {"conversation_id": "a"},
        {"conversation": pb.Conversation(title="a")},
    ),
    pb.DeleteConversationRequest: ({"name": "a"}, {"name": "b"}),
    pb.CreateDocumentRequest: (
        {"parent": "a"},
        {"document_id": "a"},
        {"document": GUIDE},
    ),
    pb.ImportDocumentHeader: (
        {"parent": "a"},
        {"document_id": "a"},
        {"document": GUIDE},
        {"expected_sha256": "a"},
    ),
    pb.DeleteDocumentRequest: ({"name": "a"}, {"name": "b"}),
}
ALL = [
    kind(request_id="r-1", **fields) for kind, many in REQUESTS.items() for fields in ({}, *many)
]


def fingerprint(request: Any) -> bytes:
    claim = claim_of(request, CALLER)
    assert claim is not None
    return claim.fingerprint


def test_whatever_is_said_and_in_whatever_message_tells_requests_apart() -> None:
    assert len({fingerprint(request) for request in ALL}) == len(ALL)


@pytest.mark.parametrize("request_", ALL, ids=lambda each: type(each).__name__)
def test_the_same_again_is_the_same(request_: Any) -> None:
    again = type(request_).FromString(request_.SerializeToString())
    assert fingerprint(again) == fingerprint(request_)


def test_the_order_of_a_map_tells_nothing() -> None:
    keys = [f"k{number}" for number in range(20)]
    given, reversed_ = (
        pb.AskQuestionRequest(context=dict.fromkeys(order, "v"), request_id="r-1")
        for order in (keys, keys[::-1])
    )
    assert fingerprint(given) == fingerprint(reversed_)


def test_content_is_hashed_apart() -> None:
    empty, full = (pb.CreateDocumentRequest(content=c, request_id="r-1") for c in (b"", b"a"))
    assert fingerprint(empty) == fingerprint(full)


def test_a_claim_is_its_callers() -> None:
    claim = claim_of(pb.DeleteDocumentRequest(request_id="r-1"), CALLER, field="header.request_id")
    assert claim is not None
    assert (claim.key, claim.field) == (("acme", "someone", "r-1"), "header.request_id")
    assert claim_of(pb.DeleteDocumentRequest(), CALLER) is None


class Talk:
    """A dialogue that is in a conversation by now, or in none."""

    def __init__(self, conversation: str) -> None:
        self.conversation = conversation


def turn(start: pb.ChatStart, conversation: str = "", request_id: str = "r-1") -> Claim | None:
    message = pb.ChatMessage(question="why?", request_id=request_id)
    talk: Any = Talk(conversation)
    return turn_claim_of(start, message, talk, CALLER)


def test_a_turn_is_told_by_the_start_of_its_dialogue() -> None:
    starts = (pb.ChatStart(), pb.ChatStart(collection="c"), pb.ChatStart(context={"a": "1"}))
    claims = [turn(start) for start in starts]
    assert len({claim.fingerprint for claim in claims if claim}) == 3
    assert [claim.field for claim in claims if claim] == ["message.request_id"] * 3
    assert turn(pb.ChatStart(), request_id="") is None


def test_a_turn_is_the_same_in_a_conversation_that_was_begun_or_is_gone_on_with() -> None:
    begun = turn(pb.ChatStart(conversation="conversations/-"), "talk")
    assert begun == turn(pb.ChatStart(conversation="conversations/talk"), "talk")
    assert begun != turn(pb.ChatStart(conversation="conversations/-"))
