"""Programs that were built with the released contract, and today's server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"
TEXT = b"The bell of the chapel weighs 412 kilograms."
V1 = "kotaemon.v1.AgentService"
V2 = "kotaemon.v2.AgentService"
CONVERSATIONS = "kotaemon.v2.ConversationService"
DOCUMENTS = "kotaemon.v2.DocumentService"


@pytest.fixture
def collection() -> str:
    return f"collections/released-{uuid.uuid4().hex[:8]}"


async def ask_v1(stub: Any, _collection: str) -> None:
    response = await stub(f"{V1}/AskQuestion").one(query=QUESTION, context={"language": "en"})
    assert ANSWER in response.answer
    assert response.references


async def chat_v1(stub: Any, _collection: str) -> None:
    chat = stub(f"{V1}/ChatStream")
    messages = await chat.all_for(*[chat.request(role="user", content=QUESTION)] * 2)
    assert {message.role for message in messages} == {"assistant"}
    assert "".join(message.content for message in messages).count(ANSWER) == 2


async def ask(stub: Any, _collection: str) -> None:
    response = await stub(f"{V2}/AskQuestion").one(question=QUESTION)
    assert ANSWER in response.answer.text
    assert response.answer.citations[0].uri.endswith("/en/vessels.md")


async def stream(stub: Any, _collection: str) -> None:
    events = await stub(f"{V2}/StreamAnswer").all(question=QUESTION)
    assert ANSWER in "".join(event.text_delta.text for event in events)
    assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
    assert events[-1].WhichOneof("event") == "completed"


async def chat(stub: Any, collection: str) -> None:
    chatting = stub(f"{V2}/ChatStream")
    await _created(stub, collection)
    events = await chatting.all_for(
        chatting.request(start={"collection": collection}),
        *[chatting.request(message={"question": "What weighs 412 kilograms?"})] * 2,
    )
    turns = [event.turn_completed for event in events if event.HasField("turn_completed")]
    assert ["the chapel" in turn.answer.text for turn in turns] == [True, True]
    assert events[-1].WhichOneof("event") == "completed"


async def create_conversation(stub: Any, _collection: str) -> None:
    assert (await _conversation(stub)).title == "Bells"


async def get_conversation(stub: Any, _collection: str) -> None:
    kept = await _conversation(stub)
    response = await stub(f"{CONVERSATIONS}/GetConversation").one(name=kept.name)
    assert response.conversation == kept


async def list_conversations(stub: Any, _collection: str) -> None:
    kept = await _conversation(stub)
    response = await stub(f"{CONVERSATIONS}/ListConversations").one(page_size=1)
    assert [each.name for each in response.conversations] == [kept.name]


async def list_turns(stub: Any, _collection: str) -> None:
    kept = await _conversation(stub)
    await stub(f"{V2}/AskQuestion").one(question=QUESTION, conversation=kept.name)
    response = await stub(f"{CONVERSATIONS}/ListTurns").one(parent=kept.name)
    assert [turn.question for turn in response.turns] == [QUESTION]


async def delete_conversation(stub: Any, _collection: str) -> None:
    kept = await _conversation(stub)
    await stub(f"{CONVERSATIONS}/DeleteConversation").one(name=kept.name)
    response = await stub(f"{CONVERSATIONS}/ListConversations").one()
    assert kept.name not in [each.name for each in response.conversations]


async def search(stub: Any, collection: str) -> None:
    created = await _created(stub, collection)
    response = await stub("kotaemon.v2.RetrievalService/Search").one(
        collection=collection, query="weight of the bell"
    )
    assert [result.document for result in response.results] == [created.name]


async def create_document(stub: Any, collection: str) -> None:
    assert (await _created(stub, collection)).size_bytes == len(TEXT)


async def import_document(stub: Any, collection: str) -> None:
    importing = stub(f"{DOCUMENTS}/ImportDocument")
    response = await importing.one_for(
        importing.request(header={"parent": collection, "document": {"uri": "x:/bell.txt"}}),
        importing.request(chunk=TEXT[:10]),
        importing.request(chunk=TEXT[10:]),
    )
    assert response.document.size_bytes == len(TEXT)


async def get_document(stub: Any, collection: str) -> None:
    created = await _created(stub, collection)
    response = await stub(f"{DOCUMENTS}/GetDocument").one(name=created.name)
    assert response.document.uri == "x:/bell.txt"


async def list_documents(stub: Any, collection: str) -> None:
    created = await _created(stub, collection)
    response = await stub(f"{DOCUMENTS}/ListDocuments").one(parent=collection)
    assert [each.name for each in response.documents] == [created.name]


async def delete_document(stub: Any, collection: str) -> None:
    created = await _created(stub, collection)
    await stub(f"{DOCUMENTS}/DeleteDocument").one(name=created.name)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(f"{DOCUMENTS}/GetDocument").one(name=created.name)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def _conversation(stub: Any) -> Any:
    response = await stub(f"{CONVERSATIONS}/CreateConversation").one(
        conversation={"title": "Bells"}
    )
    return response.conversation


async def _created(stub: Any, collection: str) -> Any:
    response = await stub(f"{DOCUMENTS}/CreateDocument").one(
        parent=collection, document={"uri": "x:/bell.txt"}, content=TEXT
    )
    return response.document


ROWS: dict[str, Callable[[Any, str], Awaitable[None]]] = {
    f"{V1}/AskQuestion": ask_v1,
    f"{V1}/ChatStream": chat_v1,
    f"{V2}/AskQuestion": ask,
    f"{V2}/StreamAnswer": stream,
    f"{V2}/ChatStream": chat,
    f"{CONVERSATIONS}/CreateConversation": create_conversation,
    f"{CONVERSATIONS}/GetConversation": get_conversation,
    f"{CONVERSATIONS}/ListConversations": list_conversations,
    f"{CONVERSATIONS}/ListTurns": list_turns,
    f"{CONVERSATIONS}/DeleteConversation": delete_conversation,
    "kotaemon.v2.RetrievalService/Search": search,
    f"{DOCUMENTS}/CreateDocument": create_document,
    f"{DOCUMENTS}/ImportDocument": import_document,
    f"{DOCUMENTS}/GetDocument": get_document,
    f"{DOCUMENTS}/ListDocuments": list_documents,
    f"{DOCUMENTS}/DeleteDocument": delete_document,
}
"""By the path of a released method, what a program does with it."""


def test_every_released_method_has_a_row(released: Any) -> None:
    assert set(ROWS) == set(released.methods)


@pytest.mark.parametrize("path", ROWS)
async def test_a_released_method_works(stub: Any, collection: str, path: str) -> None:
    await ROWS[path](stub, collection)


@pytest.mark.parametrize("kind", ["StreamAnswerResponse", "ChatStreamResponse"])
def test_an_event_that_the_release_does_not_know_is_none_to_it(released: Any, kind: str) -> None:
    event = getattr(pb, kind)(sequence_number=7, going_away=pb.GoingAway())
    read = released.message(f"kotaemon.v2.{kind}").FromString(event.SerializeToString())
    assert read.sequence_number == 7
    assert read.WhichOneof("event") is None
