"""Requests with a request_id that come again: at once, later, after a restart, after kill -9."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    import grpc

    Request = Callable[["House", str], Awaitable[Any]]

DOCUMENT = b"# Ferry\n\nThe Marigold may carry 180 passengers.\n"
QUESTION = "How many passengers may the Marigold carry?"
OTHER_QUESTION = "Which vessel may carry passengers?"
NEW = "conversations/-"


class House:
    """The stubs of a server, with a document and a conversation to work on."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.agent = stubs.AgentServiceStub(channel)
        self.conversations = stubs.ConversationServiceStub(channel)
        self.documents = stubs.DocumentServiceStub(channel)
        self.name = uuid.uuid4().hex
        self.collection = f"collections/{self.name}"
        self.content = DOCUMENT
        """What requests say; changed, they say something else under the same id."""
        self.question = QUESTION

    async def prepare(self) -> None:
        for parent in (self.collection, f"{self.collection}-gone"):
            await self.documents.CreateDocument(
                pb.CreateDocumentRequest(parent=parent, document_id="ferry", content=DOCUMENT)
            )
        for name in (self.name, f"{self.name}-gone"):
            await self.conversations.CreateConversation(
                pb.CreateConversationRequest(conversation_id=name)
            )

    async def ask(self, request_id: str) -> Any:
        return await self.agent.AskQuestion(self._asked(pb.AskQuestionRequest, request_id, ""))

    async def ask_anew(self, request_id: str) -> Any:
        return await self.agent.AskQuestion(self._asked(pb.AskQuestionRequest, request_id, NEW))

    async def ask_in_conversation(self, request_id: str) -> Any:
        name = f"conversations/{self.name}"
        return await self.agent.AskQuestion(self._asked(pb.AskQuestionRequest, request_id, name))

    async def stream(self, request_id: str) -> Any:
        asked = self._asked(pb.StreamAnswerRequest, request_id, NEW)
        events = [event async for event in self.agent.StreamAnswer(asked)]
        assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
        completed = events[-1].completed
        text = "".join(event.text_delta.text for event in events)
        citations = [event.citation for event in events if event.HasField("citation")]
        assert (text, citations) == (completed.answer.text, list(completed.answer.citations))
        return completed

    async def chat(self, request_id: str) -> Any:
        events = [event async for event in self.agent.ChatStream(self._said(request_id))]
        text = "".join(event.text_delta.text for event in events)
        completed = events[-2].turn_completed
        assert text == completed.answer.text
        assert events[-1].completed.conversation == completed.conversation
        return completed

    async def create_conversation(self, request_id: str) -> Any:
        conversation = pb.Conversation(title=self.question)
        return await self.conversations.CreateConversation(
            pb.CreateConversationRequest(conversation=conversation, request_id=request_id)
        )

    async def delete_conversation(self, request_id: str) -> Any:
        name = f"{self.name}-gone" if self.question == QUESTION else "other"
        return await self.conversations.DeleteConversation(
            pb.DeleteConversationRequest(name=f"conversations/{name}", request_id=request_id)
        )

    async def create_document(self, request_id: str) -> Any:
        return await self.documents.CreateDocument(
            pb.CreateDocumentRequest(
                parent=self.collection, content=self.content, request_id=request_id
            )
        )

    async def import_document(self, request_id: str) -> Any:
        header = pb.ImportDocumentHeader(parent=self.collection, request_id=request_id)
        return await self.documents.ImportDocument(self.pieces(header))

    async def delete_document(self, request_id: str) -> Any:
        document = "ferry" if self.question == QUESTION else "other"
        name = f"{self.collection}-gone/documents/{document}"
        return await self.documents.DeleteDocument(
            pb.DeleteDocumentRequest(name=name, request_id=request_id)
        )

    async def state(self) -> Any:
        """All that a request could change."""
        listed = await self.conversations.ListConversations(pb.ListConversationsRequest())
        documents = await self.documents.ListDocuments(
            pb.ListDocumentsRequest(parent="collections/default")
        )
        own = await self.documents.ListDocuments(pb.ListDocumentsRequest(parent=self.collection))
        try:
            gone = await self.documents.ListDocuments(
                pb.ListDocumentsRequest(parent=f"{self.collection}-gone")
            )
        except Exception:  # noqa: BLE001 - with its last document it is gone
            gone = None
        return listed, documents, own, gone

    def _asked(self, kind: Any, request_id: str, conversation: str) -> Any:
        return kind(
            question=self.question,
            collection=self.collection,
            conversation=conversation,
            request_id=request_id,
            context={"b": "2", "a": "1"},
        )

    async def _said(self, request_id: str) -> AsyncIterator[pb.ChatStreamRequest]:
        start = pb.ChatStart(collection=self.collection, conversation=NEW)
        yield pb.ChatStreamRequest(start=start)
        message = pb.ChatMessage(question=self.question, request_id=request_id)
        yield pb.ChatStreamRequest(message=message)

    async def pieces(
        self, header: pb.ImportDocumentHeader
    ) -> AsyncIterator[pb.ImportDocumentRequest]:
        yield pb.ImportDocumentRequest(header=header)
        for start in range(0, len(self.content), 10):
            yield pb.ImportDocumentRequest(chunk=self.content[start : start + 10])


REQUESTS: dict[str, tuple[Request, str]] = {
    "AskQuestion": (House.ask, "request_id"),
    "AskQuestion, new": (House.ask_anew, "request_id"),
    "AskQuestion, kept": (House.ask_in_conversation, "request_id"),
    "StreamAnswer": (House.stream, "request_id"),
    "ChatStream": (House.chat, "message.request_id"),
    "CreateConversation": (House.create_conversation, "request_id"),
    "DeleteConversation": (House.delete_conversation, "request_id"),
    "CreateDocument": (House.create_document, "request_id"),
    "ImportDocument": (House.import_document, "header.request_id"),
    "DeleteDocument": (House.delete_document, "request_id"),
}
"""By name: what sends the request, and what it calls its id."""
METHODS = [method for method, _ in REQUESTS.values()]


@pytest.fixture
async def house(channel: grpc.aio.Channel) -> House:
    made = House(channel)
    await made.prepare()
    return made


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_is_repeated_has_its_first_outcome(house: House, name: str) -> None:
    request, _ = REQUESTS[name]
    first = await request(house, house.name)
    state = await house.state()
    for _ in range(2):
        assert await request(house, house.name) == first
    assert await house.state() == state


@pytest.mark.parametrize("name", REQUESTS)
async def test_of_many_at_once_one_is_done(house: House, name: str) -> None:
    request, _ = REQUESTS[name]
    first, *others = await asyncio.gather(*(request(house, house.name) for _ in range(8)))
    assert others == [first] * 7
    assert await request(house, house.name) == first


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_id_with_other_content_is_refused(
    house: House, name: str, failure_of: Any
) -> None:
    request, field = REQUESTS[name]
    await request(house, house.name)
    state = await house.state()
    house.question, house.content = OTHER_QUESTION, DOCUMENT + b"And more.\n"
    failure = await failure_of(request(house, house.name))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert list(failure.violations) == [field]
    assert await house.state() == state


@pytest.mark.parametrize("name", REQUESTS)
async def test_an_id_that_is_none_is_a_violation_like_others(
    house: House, name: str, failure_of: Any
) -> None:
    request, field = REQUESTS[name]
    failure = await failure_of(request(house, "two words"))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert list(failure.violations) == [field]


async def test_one_id_is_one_request_whatever_the_method(house: House, failure_of: Any) -> None:
    await house.ask_anew(house.name)
    for request in (House.stream, House.chat, House.create_conversation, House.import_document):
        assert (await failure_of(request(house, house.name))).reason == "REQUEST_ID_REUSED"


async def test_without_an_id_each_request_counts(house: House) -> None:
    names = {(await house.ask_anew("")).conversation for _ in range(3)}
    assert len(names) == 3


async def test_an_answer_that_a_conversation_keeps_is_the_first_one_whatever_has_changed_since(
    house: House,
) -> None:
    first = await house.ask_in_conversation(house.name)
    assert "180" in first.answer.text
    name = f"{house.collection}/documents/ferry"
    await house.documents.DeleteDocument(pb.DeleteDocumentRequest(name=name))
    assert await house.ask_in_conversation(house.name) == first


async def test_an_answer_that_nothing_keeps_is_not_repeated_from_a_deleted_document(
    house: House, failure_of: Any
) -> None:
    assert "180" in (await house.ask(house.name)).answer.text
    name = f"{house.collection}/documents/ferry"
    await house.documents.DeleteDocument(pb.DeleteDocumentRequest(name=name))
    assert (await failure_of(house.ask(house.name))).code == "NOT_FOUND"
    house.content = DOCUMENT.replace(b"180", b"150")
    await house.create_document("")
    anew = await house.ask(house.name)
    assert "150" in anew.answer.text
    assert await house.ask(house.name) == anew


async def test_an_answer_that_nothing_keeps_is_not_repeated_from_a_replaced_document(
    house: House,
) -> None:
    assert "180" in (await house.ask(house.name)).answer.text
    house.content = DOCUMENT.replace(b"180", b"150")
    header = pb.ImportDocumentHeader(parent=house.collection, document_id="ferry")
    await house.documents.ImportDocument(house.pieces(header))
    assert "150" in (await house.ask(house.name)).answer.text


async def test_what_failed_is_tried_anew(house: House, failure_of: Any) -> None:
    name = f"{house.collection}/documents/ferry"
    await house.documents.DeleteDocument(pb.DeleteDocumentRequest(name=name))
    assert (await failure_of(house.ask_anew(house.name))).code == "NOT_FOUND"
    await house.create_document("")
    assert "180" in (await house.ask_anew(house.name)).answer.text


async def test_an_import_whose_hash_is_known_is_not_read_again(house: House) -> None:
    header = pb.ImportDocumentHeader(
        parent=house.collection,
        document_id="hashed",
        expected_sha256=hashlib.sha256(DOCUMENT).hexdigest(),
        request_id=house.name,
    )

    async def only(header: pb.ImportDocumentHeader) -> Any:
        yield pb.ImportDocumentRequest(header=header)

    first = await house.documents.ImportDocument(house.pieces(header))
    assert first.outcome == pb.IMPORT_OUTCOME_CREATED
    assert await house.documents.ImportDocument(only(header)) == first
    header.request_id += "-2"
    unchanged = await house.documents.ImportDocument(only(header))
    assert unchanged.outcome == pb.IMPORT_OUTCOME_UNCHANGED
    house.content = b"Another text.\n"
    other = pb.ImportDocumentHeader(parent=house.collection, document_id="hashed")
    await house.documents.ImportDocument(house.pieces(other))
    assert await house.documents.ImportDocument(only(header)) == unchanged


async def test_a_dialogue_goes_on_where_its_stream_broke(house: House) -> None:
    async def says(start: str, *turns: tuple[str, str]) -> AsyncIterator[pb.ChatStreamRequest]:
        started = pb.ChatStart(collection=house.collection, conversation=start)
        yield pb.ChatStreamRequest(start=started)
        for question, request_id in turns:
            message = pb.ChatMessage(question=question, request_id=f"{house.name}-{request_id}")
            yield pb.ChatStreamRequest(message=message)

    async def turns_of(*said: Any) -> list[Any]:
        events = [event async for event in house.agent.ChatStream(says(*said))]
        return [event.turn_completed for event in events if event.HasField("turn_completed")]

    one, two, three = ((QUESTION, "1"), (OTHER_QUESTION, "2"), (QUESTION, "3"))
    first = await turns_of(NEW, one, two)
    name = first[0].conversation
    # From the start again, or by the name that the first turn had told: it is the same.
    assert await turns_of(NEW, one, two) == first
    assert await turns_of(name, two) == first[1:]
    await turns_of(NEW, one, two, three)
    kept = await house.conversations.ListTurns(pb.ListTurnsRequest(parent=name))
    assert [turn.question for turn in kept.turns] == [QUESTION, OTHER_QUESTION, QUESTION]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_after_a_restart_every_outcome_is_known(start: Callable[..., Any], end: str) -> None:
    serving = await asyncio.to_thread(start)
    async with serving.channel() as channel:
        house = House(channel)
        await house.prepare()
        first = [await send(house, f"{house.name}-{n}") for n, send in enumerate(METHODS)]
        # Of the last one, nothing but its answer was waited for.
        await asyncio.to_thread(getattr(serving, end))
    serving = await asyncio.to_thread(start)
    async with serving.channel() as channel:
        again = House(channel)
        again.name, again.collection = house.name, house.collection
        state = await again.state()
        repeated = [await send(again, f"{house.name}-{n}") for n, send in enumerate(METHODS)]
        assert repeated == first
        assert await again.state() == state
    assert serving.stop() == 0
