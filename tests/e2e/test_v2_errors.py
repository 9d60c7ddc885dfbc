"""What every failure carries, and what none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

FAILURES: dict[str, tuple[Callable[[Any], Any], str, str]] = {
    "INVALID_FIELD": (
        lambda ch: stubs.AgentServiceStub(ch).AskQuestion(pb.AskQuestionRequest()),
        "INVALID_ARGUMENT",
        "BadRequest",
    ),
    "COLLECTION_NOT_FOUND": (
        lambda ch: stubs.RetrievalServiceStub(ch).Search(
            pb.SearchRequest(query="q", collection="collections/never-was")
        ),
        "NOT_FOUND",
        "ResourceInfo",
    ),
    "DOCUMENT_NOT_FOUND": (
        lambda ch: stubs.DocumentServiceStub(ch).GetDocument(
            pb.GetDocumentRequest(name="collections/default/documents/never-was")
        ),
        "NOT_FOUND",
        "ResourceInfo",
    ),
    "CONVERSATION_NOT_FOUND": (
        lambda ch: stubs.ConversationServiceStub(ch).ListTurns(
            pb.ListTurnsRequest(parent="conversations/never-was")
        ),
        "NOT_FOUND",
        "ResourceInfo",
    ),
}


@pytest.mark.parametrize("reason", FAILURES)
async def test_a_failure_has_its_reason_its_detail_and_the_id_of_its_request(
    channel: grpc.aio.Channel, reason: str, failure_of: Any
) -> None:
    call, code, kind = FAILURES[reason]
    failure = await failure_of(call(channel))
    assert (failure.code, failure.reason) == (code, reason)
    assert failure.kinds == ["ErrorInfo", "RequestInfo", kind, "LocalizedMessage"]
    assert failure.detail("ErrorInfo").domain == "kotaemon-grpc"
    assert failure.status.message == failure.error.details()
    assert failure.status.code == failure.error.code().value[0]
    request_id = failure.detail("RequestInfo").request_id
    assert request_id
    assert dict(failure.error.trailing_metadata())["x-request-id"] == request_id


async def test_the_caller_can_name_its_request(channel: grpc.aio.Channel, failure_of: Any) -> None:
    call = stubs.AgentServiceStub(channel).AskQuestion(
        pb.AskQuestionRequest(), metadata=(("x-request-id", "my-own-id"),)
    )
    failure = await failure_of(call)
    assert failure.detail("RequestInfo").request_id == "my-own-id"


async def test_the_largest_status_arrives_every_time(
    channel: grpc.aio.Channel, failure_of: Any
) -> None:
    request = pb.AskQuestionRequest(
        question="q", context={"🦑" * 63 + chr(0x3400 + n): "x" * 4097 for n in range(32)}
    )
    for _ in range(50):
        failure = await failure_of(stubs.AgentServiceStub(channel).AskQuestion(request))
        assert failure.reason == "INVALID_FIELD"
        assert failure.violations
        assert failure.status.ByteSize() <= 4096


async def test_an_unknown_method_is_unimplemented(
    channel: grpc.aio.Channel, failure_of: Any
) -> None:
    for method in ("/kotaemon.v2.AgentService/Nope", "/kotaemon.v3.AgentService/AskQuestion"):
        assert (await failure_of(channel.unary_unary(method)(b""))).code == "UNIMPLEMENTED"


async def test_a_message_over_the_limit_is_refused(
    channel: grpc.aio.Channel, failure_of: Any
) -> None:
    request = pb.CreateDocumentRequest(parent="collections/c", content=b"x" * (4 * 1024 * 1024))
    failure = await failure_of(stubs.DocumentServiceStub(channel).CreateDocument(request))
    assert failure.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    "method",
    ["v2.AgentService/AskQuestion", "v2.AgentService/StreamAnswer", "AgentService/AskQuestion"],
)
async def test_bytes_that_are_no_message_are_refused(
    channel: grpc.aio.Channel, method: str, failure_of: Any
) -> None:
    make = channel.unary_stream if method.endswith("StreamAnswer") else channel.unary_unary
    failure = await failure_of(make(f"/kotaemon.{method}")(b"\xff\xff"))
    assert failure.code == "INVALID_ARGUMENT"


async def test_a_question_that_could_be_a_query_language_is_text(
    channel: grpc.aio.Channel,
) -> None:
    agent = stubs.AgentServiceStub(channel)
    for question in ('"', "a AND (b", "title:*", "'; DROP TABLE documents; --", "\\", "\0", "%s{}"):
        answer = (await agent.AskQuestion(pb.AskQuestionRequest(question=question))).answer
        assert answer.text
