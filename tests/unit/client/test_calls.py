"""What a client sends: ids, deadlines, credentials, and the whole contract."""

from __future__ import annotations

import asyncio
import io
import math
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import (
    AgentClient,
    CallError,
    ClientError,
    ConfigurationError,
    Conversation,
    CredentialsError,
    DeadlineError,
    NotFoundError,
    Turn,
    UnavailableError,
    Usage,
)
from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Code = grpc.StatusCode
DOWN = failure(Code.UNAVAILABLE)
OK = pb.AskQuestionResponse(answer=pb.Answer(text="so"))


async def events(*given: Any) -> AsyncIterator[Any]:
    """The events of a stream; an error among them ends it."""
    for each in given:
        if isinstance(each, BaseException):
            raise each
        yield each


async def each(*questions: Any) -> AsyncIterator[Any]:
    for question in questions:
        yield question


async def test_the_id_of_a_request_is_that_of_all_its_attempts_and_of_no_other(
    client_of: Any, script: Any
) -> None:
    asked = script(DOWN, DOWN, OK)
    client = client_of(FakeTransport({"AskQuestion": asked}))
    await client.ask("why?")
    await client.ask("why?")
    await client.ask("why?", request_id="mine")
    first, second, third, other, mine = [request.request_id for request in asked.requests]
    assert first == second == third
    assert len({first, other, mine, ""}) == 4
    assert mine == "mine"


async def test_a_request_that_changes_nothing_is_repeated_without_an_id(
    client_of: Any, script: Any
) -> None:
    transport = FakeTransport({"GetDocument": script(DOWN, pb.GetDocumentResponse())})
    await client_of(transport).get_document("collections/c/documents/d")
    assert len(transport.calls) == 2


async def test_an_answer_says_what_it_took(client_of: Any) -> None:
    answer = pb.Answer(text="so", usage=pb.Usage(output_tokens=0, passages=3))
    transport = FakeTransport({"AskQuestion": lambda _: pb.AskQuestionResponse(answer=answer)})
    assert (await client_of(transport).ask("why?")).usage == Usage(None, 0, 3)


async def test_lists_are_read_page_after_page_each_with_its_own_deadline(
    client_of: Any, script: Any, time: Any
) -> None:
    def page(name: str, token: str) -> Any:
        def of(_: object) -> pb.ListConversationsResponse:
            time.now_s += 50
            return pb.ListConversationsResponse(
                conversations=[pb.Conversation(name=name)], next_page_token=token
            )

        return of

    listed = script(page("conversations/a", "next"), page("conversations/b", ""))
    transport = FakeTransport({"ListConversations": listed})
    found = [one.name async for one in client_of(transport).list_conversations()]
    assert found == ["conversations/a", "conversations/b"]
    assert [call.timeout_s for call in transport.calls] == [60, 60]


async def test_the_client_has_the_whole_contract() -> None:
    def answer(response: Any, *, is_stream: bool) -> Any:
        async def one(given: Any) -> Any:
            if not hasattr(given, "DESCRIPTOR"):
                [_ async for _ in given]
            return response

        return (lambda _: events(response)) if is_stream else one

    handlers = {}
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            response = getattr(pb, method.output_type.name)()
            if method.server_streaming:
                response.completed.SetInParent()
            handlers[method.name] = answer(response, is_stream=method.server_streaming)
    transport = FakeTransport(handlers)
    async with AgentClient(tls=None, transport=transport) as client:
        await client.ask("why?")
        assert [event async for event in client.stream("why?")]
        assert [event async for event in client.chat(each("why?"))] == []
        assert await client.search("what") == ()
        assert [found async for found in client.search_all("what")] == []
        assert isinstance(await client.create_conversation(title="t"), Conversation)
        await client.get_conversation("conversations/c")
        assert [found async for found in client.list_conversations()] == []
        assert [found async for found in client.list_turns("conversations/c")] == []
        await client.delete_conversation("conversations/c")
        await client.create_document(b"text")
        await client.import_document(io.BytesIO(b"text"), uri="urn:x")
        await client.get_document("collections/c/documents/d")
        assert [found async for found in client.list_documents()] == []
        await client.delete_document("collections/c/documents/d")
    sent = [call.method for call in transport.calls]
    contract = {
        f"/{service.full_name}/{method.name}"
        for service in pb.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert set(sent) == contract
    assert transport.is_closed


async def test_turns_are_plain_values(client_of: Any) -> None:
    turn = pb.Turn(name="conversations/c/turns/1", question="why?", answer=pb.Answer(text="so"))
    transport = FakeTransport({"ListTurns": lambda _: pb.ListTurnsResponse(turns=[turn])})
    (found,) = [turn async for turn in client_of(transport).list_turns("conversations/c")]
    assert isinstance(found, Turn)
    assert (found.question, found.answer.text) == ("why?", "so")
    assert found.answer.conversation == "conversations/c"


@pytest.mark.parametrize("timeout_s", [0, -1, math.nan, math.inf, "60"])
async def test_a_deadline_that_is_none_is_refused(client_of: Any, timeout_s: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout_s"):
        AgentClient(tls=None, transport=FakeTransport({}), timeout_s=timeout_s)
    client = client_of(FakeTransport({"AskQuestion": lambda _: OK}))
    with pytest.raises(ConfigurationError, match="timeout_s"):
        await client.ask("why?", timeout_s=timeout_s)


def test_a_client_without_a_deadline_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="timeout_s"):
        AgentClient(tls=None, transport=FakeTransport({}), timeout_s=None)  # type: ignore[arg-type] # that is the test


class Credentials:
    """Does what the test says."""

    def __init__(self, metadata: Any) -> None:
        self.metadata = metadata

    def expired(self) -> None:
        raise AssertionError("nobody said so")


async def test_credentials_that_do_not_come_end_with_the_deadline(client_of: Any) -> None:
    transport = FakeTransport({})
    client = client_of(transport, credentials=Credentials(asyncio.Event().wait))
    with pytest.raises(DeadlineError):
        await client.ask("why?", timeout_s=0.001)
    assert transport.calls == []


async def test_credentials_that_cannot_be_got_are_told_as_such(client_of: Any) -> None:
    transport = FakeTransport({})

    async def refused() -> Any:
        raise CredentialsError("no such client")

    with pytest.raises(CredentialsError, match="no such client"):
        await client_of(transport, credentials=Credentials(refused)).ask("why?")
    assert transport.calls == []


async def test_a_closed_client_refuses_calls_and_repeats_none(client_of: Any) -> None:
    async def handle(_: object) -> Any:
        await client.close()
        raise DOWN

    transport = FakeTransport({"AskQuestion": handle})
    client = client_of(transport)
    with pytest.raises(UnavailableError):
        await client.ask("why?")
    with pytest.raises(ClientError, match="closed"):
        await client.ask("why?")
    assert len(transport.calls) == 1


async def test_the_targets_can_be_replaced(client_of: Any) -> None:
    transport = FakeTransport({})
    client = client_of(transport)
    await client.replace_targets("one:1")
    assert transport.targets == ("one:1",)
    await client.replace_targets(["one:1", "two:2"])
    assert transport.targets == ("one:1", "two:2")


async def test_a_method_without_a_handler_is_not_implemented() -> None:
    async with AgentClient(tls=None, transport=FakeTransport({})) as client:
        with pytest.raises(CallError, match="no handler for AskQuestion") as raised:
            await client.ask("why?")
    assert raised.value.code is Code.UNIMPLEMENTED


async def test_a_failure_of_a_handler_is_what_the_client_raises() -> None:
    error = failure(Code.NOT_FOUND, "gone", reason="DOCUMENT_NOT_FOUND", retry_after_s=1.5)
    transport = FakeTransport({"GetDocument": lambda _: events_of(error)})

    def events_of(error: CallError) -> None:
        raise error

    async with AgentClient(tls=None, transport=transport) as client:
        with pytest.raises(NotFoundError) as raised:
            await client.get_document("x")
    assert (raised.value.message, raised.value.reason) == ("gone", "DOCUMENT_NOT_FOUND")
    assert raised.value.retry_after_s == 1.5
