"""`AgentClient` and its synchronous face against real servers that come and go."""

from __future__ import annotations

import asyncio
import io
import socket
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import (
    NEW_CONVERSATION,
    AgentClient,
    AlreadyExistsError,
    Answer,
    CallError,
    Hooks,
    NotFoundError,
    Question,
    RetryPolicy,
    SyncAgentClient,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from kotaemon_grpc.client import Call

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Retried(Hooks):
    """Tells when the first attempt of a call has failed."""

    def __init__(self) -> None:
        self.first = asyncio.Event()

    def on_retry(self, call: Call, attempt: int, error: CallError, wait_s: float) -> None:  # noqa: ARG002 - theirs
        self.first.set()


async def test_a_call_waits_for_a_server_that_comes_back(start: Callable[..., Any]) -> None:
    listen = f"--listen=127.0.0.1:{free_port()}"
    server = start(listen)
    retried = Retried()
    async with AgentClient(
        server.address,
        tls=server.tls,
        retry=RetryPolicy(attempts=100, max_backoff_s=0.5),
        hooks=(retried,),
    ) as client:
        made = await client.create_conversation(conversation_id="kept")
        server.kill()
        asked = asyncio.create_task(client.get_conversation(made.name))
        await retried.first.wait()
        await asyncio.to_thread(start, listen)
        assert (await asked).name == "conversations/kept"


async def test_conversations_are_created_got_listed_and_deleted(client: AgentClient) -> None:
    made = await client.create_conversation(title="a title", conversation_id="of-the-client")
    assert (made.name, made.title, made.turn_count) == (
        "conversations/of-the-client",
        "a title",
        0,
    )
    with pytest.raises(AlreadyExistsError):
        await client.create_conversation(conversation_id="of-the-client")
    answer = await client.ask(QUESTION, conversation=made.name)
    assert (await client.get_conversation(made.name)).turn_count == 1
    assert made.name in [found.name async for found in client.list_conversations()]
    (turn,) = [turn async for turn in client.list_turns(made.name)]
    assert (turn.question, turn.answer.text) == (QUESTION, answer.text)
    await client.delete_conversation(made.name)
    with pytest.raises(NotFoundError):
        await client.get_conversation(made.name)


async def test_the_same_id_is_the_same_request(client: AgentClient) -> None:
    first = await client.ask(QUESTION, conversation=NEW_CONVERSATION, request_id="e2e-once")
    again = await client.ask(QUESTION, conversation=NEW_CONVERSATION, request_id="e2e-once")
    assert first == again
    assert len([turn async for turn in client.list_turns(first.conversation)]) == 1


async def test_a_question_can_be_asked_again_on_another_dialogue(client: AgentClient) -> None:
    async def one() -> AsyncIterator[Question]:
        yield Question(QUESTION, request_id="e2e-dialogue")

    made = await client.create_conversation()
    answers = []
    for _ in range(2):
        events = [event async for event in client.chat(one(), conversation=made.name)]
        answers += [event for event in events if isinstance(event, Answer)]
    assert answers[0] == answers[1]
    assert (await client.get_conversation(made.name)).turn_count == 1


async def test_a_small_document_is_created_and_all_passages_are_found(
    client: AgentClient,
) -> None:
    more = "It is long, so that it has a passage of its own. " * 40
    sections = "".join(f"# Part {n}\n\nThe zeppelin of part {n}. {more}\n\n" for n in range(110))
    made = await client.create_document(
        sections.encode(), collection="collections/zeppelins", document_id="z", title="Zeppelins"
    )
    assert made.name == "collections/zeppelins/documents/z"
    found = client.search_all("zeppelin", collection="collections/zeppelins")
    assert len([result async for result in found]) > 100
    await client.delete_document(made.name)


def test_the_synchronous_client_does_the_same(server: Any) -> None:
    with SyncAgentClient(server.address, tls=server.tls) as client:
        assert ANSWER in client.ask(QUESTION).text
        *pieces, answer = client.stream(QUESTION)
        assert "".join(p.text for p in pieces if isinstance(p, TextDelta)) == answer.text
        imported = client.import_document(
            io.BytesIO(b"# Title\n\ntext"), uri="urn:sync", collection="collections/sync"
        )
        listed = client.list_documents("collections/sync")
        assert [document.name for document in listed] == [imported.document.name]
        client.delete_document(imported.document.name)
        with pytest.raises(NotFoundError) as raised:
            client.get_document(imported.document.name)
        assert raised.value.request_id

        def questions() -> Iterator[str]:
            yield QUESTION
            yield "And how fast is it?"

        events = list(client.chat(questions()))
        assert len([event for event in events if isinstance(event, Answer)]) == 2
