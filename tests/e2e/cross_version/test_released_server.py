"""Today's client, and a server of the released contract."""

from __future__ import annotations

import asyncio
import inspect
import io
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import (
    NEW_CONVERSATION,
    AgentClient,
    Answer,
    CallError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"
TEXT = b"The bell of the chapel weighs 412 kilograms."


@pytest.fixture
def collection() -> str:
    return f"collections/released-{uuid.uuid4().hex[:8]}"


async def ask(client: AgentClient, _collection: str) -> None:
    answer = await client.ask(QUESTION, conversation=NEW_CONVERSATION)
    assert ANSWER in answer.text
    assert answer.citations[0].uri.endswith("/en/vessels.md")
    assert answer.conversation.startswith("conversations/")


async def stream(client: AgentClient, _collection: str) -> None:
    *_, answer = [event async for event in client.stream(QUESTION)]
    assert isinstance(answer, Answer)
    assert ANSWER in answer.text


async def chat(client: AgentClient, _collection: str) -> None:
    async def questions() -> AsyncIterator[str]:
        yield QUESTION
        yield QUESTION

    answers = [each async for each in client.chat(questions()) if isinstance(each, Answer)]
    assert [ANSWER in answer.text for answer in answers] == [True, True]


async def begin_chat(client: AgentClient, _collection: str) -> None:
    """Begin a dialogue, and wait to be let in before asking.

    grpc.aio puts an error of its own in the place of a status that comes while it sends.
    """

    async def questions() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield QUESTION

    async for _ in client.chat(questions()):
        pass


async def search(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection)
    (result,) = await client.search("weight of the bell", collection=collection)
    assert result.document == created.name


async def search_all(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection)
    found = [each async for each in client.search_all("the bell", collection=collection)]
    assert [result.document for result in found] == [created.name]


async def create_document(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection, document_id="bell")
    assert created.name == f"{collection}/documents/bell"


async def import_document(client: AgentClient, collection: str) -> None:
    imported = await client.import_document(
        io.BytesIO(TEXT), uri="x:/bell.txt", collection=collection
    )
    assert imported.document.size_bytes == len(TEXT)


async def get_document(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection)
    assert await client.get_document(created.name) == created


async def list_documents(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection)
    assert [each async for each in client.list_documents(collection)] == [created]


async def delete_document(client: AgentClient, collection: str) -> None:
    created = await client.create_document(TEXT, collection=collection)
    await client.delete_document(created.name)
    with pytest.raises(NotFoundError) as caught:
        await client.get_document(created.name)
    assert caught.value.reason == "DOCUMENT_NOT_FOUND"


async def create_conversation(client: AgentClient, _collection: str) -> None:
    assert (await client.create_conversation(title="Bells")).title == "Bells"


async def get_conversation(client: AgentClient, _collection: str) -> None:
    kept = await client.create_conversation(title="Bells")
    assert await client.get_conversation(kept.name) == kept


async def list_conversations(client: AgentClient, _collection: str) -> None:
    kept = await client.create_conversation(title="Bells")
    assert kept in [each async for each in client.list_conversations()]


async def list_turns(client: AgentClient, _collection: str) -> None:
    kept = await client.create_conversation()
    await client.ask(QUESTION, conversation=kept.name)
    assert [turn.question async for turn in client.list_turns(kept.name)] == [QUESTION]


async def delete_conversation(client: AgentClient, _collection: str) -> None:
    kept = await client.create_conversation()
    await client.delete_conversation(kept.name)
    with pytest.raises(NotFoundError):
        await client.get_conversation(kept.name)


AGENT = "kotaemon.v2.AgentService"
CONVERSATIONS = "kotaemon.v2.ConversationService"
DOCUMENTS = "kotaemon.v2.DocumentService"
RETRIEVAL = "kotaemon.v2.RetrievalService"

ROWS: dict[Callable[[AgentClient, str], Awaitable[None]], str] = {
    ask: f"{AGENT}/AskQuestion",
    stream: f"{AGENT}/StreamAnswer",
    chat: f"{AGENT}/ChatStream",
    search: f"{RETRIEVAL}/Search",
    search_all: f"{RETRIEVAL}/Search",
    create_document: f"{DOCUMENTS}/CreateDocument",
    import_document: f"{DOCUMENTS}/ImportDocument",
    get_document: f"{DOCUMENTS}/GetDocument",
    list_documents: f"{DOCUMENTS}/ListDocuments",
    delete_document: f"{DOCUMENTS}/DeleteDocument",
    create_conversation: f"{CONVERSATIONS}/CreateConversation",
    get_conversation: f"{CONVERSATIONS}/GetConversation",
    list_conversations: f"{CONVERSATIONS}/ListConversations",
    list_turns: f"{CONVERSATIONS}/ListTurns",
    delete_conversation: f"{CONVERSATIONS}/DeleteConversation",
}
"""What is done with the method of the client of the same name, and the method that it calls."""

CALL_NOTHING = {"close", "replace_targets"}


def test_every_method_of_the_client_has_a_row() -> None:
    methods = {
        name
        for name, _ in inspect.getmembers(AgentClient, inspect.isroutine)
        if not name.startswith("_")
    }
    assert {row.__name__ for row in ROWS} == methods - CALL_NOTHING


def test_every_released_method_of_version_2_is_called(released: Any) -> None:
    assert set(ROWS.values()) == {path for path in released.methods if ".v2." in path}


@pytest.mark.parametrize("row", ROWS)
async def test_a_method_of_the_client_works(
    released_server: Callable[..., Any], collection: str, row: Any
) -> None:
    async with released_server() as serving, AgentClient(serving.address, tls=None) as client:
        await row(client, collection)


@pytest.mark.parametrize("row", [begin_chat if row is chat else row for row in ROWS])
async def test_a_method_that_the_server_lacks_is_refused_and_not_tried_again(
    released_server: Callable[..., Any], collection: str, row: Any
) -> None:
    path = ROWS[chat if row is begin_chat else row]
    async with (
        released_server(lacks=path) as serving,
        AgentClient(serving.address, tls=None) as client,
    ):
        with pytest.raises(CallError) as caught:
            await row(client, collection)
    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.message
    assert set(serving.refused) == {path}
    # grpc.aio may put an error of its own in the place of a refusal that meets a call which
    # still sends: that is tried again, and then the refusal is seen.
    assert len(serving.refused) == 1 or row is import_document


async def test_a_released_server_does_not_know_that_it_is_asked_again(
    released_server: Callable[..., Any],
) -> None:
    async with released_server() as serving, AgentClient(serving.address, tls=None) as client:
        first, second = [await client.create_conversation(request_id="again") for _ in range(2)]
    assert first.name != second.name
