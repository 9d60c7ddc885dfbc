"""kotaemon.v2.ConversationService."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

QUESTION = "How many passengers may the Marigold carry?"


@pytest.fixture
def agent(channel: grpc.aio.Channel) -> stubs.AgentServiceStub:
    return stubs.AgentServiceStub(channel)


@pytest.fixture
def conversations(channel: grpc.aio.Channel) -> stubs.ConversationServiceStub:
    return stubs.ConversationServiceStub(channel)


def new_name() -> str:
    return f"conversations/c{uuid.uuid4().hex}"


async def create(conversations: stubs.ConversationServiceStub, **fields: str) -> pb.Conversation:
    request = pb.CreateConversationRequest(
        conversation=pb.Conversation(title=fields.get("title", "")),
        conversation_id=fields.get("name", "").removeprefix("conversations/"),
    )
    return (await conversations.CreateConversation(request)).conversation


async def names_of(conversations: stubs.ConversationServiceStub, page_size: int) -> list[str]:
    """List all conversations, page after page."""
    request = pb.ListConversationsRequest(page_size=page_size)
    names: list[str] = []
    while True:
        page = await conversations.ListConversations(request)
        assert len(page.conversations) <= page_size
        names += [conversation.name for conversation in page.conversations]
        if not page.next_page_token:
            return names
        assert len(page.conversations) == page_size
        request.page_token = page.next_page_token


async def test_a_conversation_is_created_and_got(
    conversations: stubs.ConversationServiceStub,
) -> None:
    name = new_name()
    created = await create(conversations, name=name, title="On vessels")
    assert (created.name, created.title, created.turn_count) == (name, "On vessels", 0)
    assert created.create_time == created.update_time
    assert created.create_time.seconds > 1_700_000_000
    found = await conversations.GetConversation(pb.GetConversationRequest(name=name))
    assert found.conversation == created


async def test_the_server_chooses_an_id_and_does_not_read_the_name(
    conversations: stubs.ConversationServiceStub,
) -> None:
    request = pb.CreateConversationRequest(conversation=pb.Conversation(name="conversations/mine"))
    first = (await conversations.CreateConversation(request)).conversation
    second = (await conversations.CreateConversation(request)).conversation
    assert len({first.name, second.name, "conversations/mine"}) == 3


async def test_an_id_is_given_once(
    conversations: stubs.ConversationServiceStub, failure_of: Any
) -> None:
    name = new_name()
    await create(conversations, name=name)
    request = pb.CreateConversationRequest(conversation_id=name.removeprefix("conversations/"))
    failure = await failure_of(conversations.CreateConversation(request))
    assert (failure.code, failure.reason) == ("ALREADY_EXISTS", "CONVERSATION_ALREADY_EXISTS")
    assert failure.detail("ResourceInfo").resource_type == "kotaemon/Conversation"


async def test_turns_are_kept_with_their_answers(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub
) -> None:
    name = (await create(conversations)).name
    request = pb.AskQuestionRequest(question=QUESTION, conversation=name)
    response = await agent.AskQuestion(request)
    assert response.conversation == name
    (turn,) = (await conversations.ListTurns(pb.ListTurnsRequest(parent=name))).turns
    assert turn.name == f"{name}/turns/1"
    assert turn.collection == "collections/default"
    assert (turn.question, turn.answer) == (QUESTION, response.answer)
    kept = (await conversations.GetConversation(pb.GetConversationRequest(name=name))).conversation
    assert kept.turn_count == 1
    assert QUESTION.startswith(kept.title.removesuffix("…"))
    assert kept.title
    assert kept.update_time.ToNanoseconds() >= kept.create_time.ToNanoseconds()


async def test_a_title_that_was_given_stays(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub
) -> None:
    name = (await create(conversations, title="Mine")).name
    await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, conversation=name))
    kept = await conversations.GetConversation(pb.GetConversationRequest(name=name))
    assert kept.conversation.title == "Mine"


async def test_a_dash_starts_a_conversation_with_each_question(
    agent: stubs.AgentServiceStub,
) -> None:
    request = pb.AskQuestionRequest(question=QUESTION, conversation="conversations/-")
    first = (await agent.AskQuestion(request)).conversation
    second = (await agent.AskQuestion(request)).conversation
    assert first.startswith("conversations/")
    assert first != second != "conversations/-"


async def test_a_question_that_fails_starts_no_conversation(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub, failure_of: Any
) -> None:
    before = await names_of(conversations, 1000)
    request = pb.AskQuestionRequest(
        question=QUESTION, conversation="conversations/-", collection="collections/never-was"
    )
    await failure_of(agent.AskQuestion(request))
    assert await names_of(conversations, 1000) == before


async def test_conversations_are_listed_newest_first_page_after_page(
    conversations: stubs.ConversationServiceStub,
) -> None:
    made = [(await create(conversations)).name for _ in range(5)]
    listed = await names_of(conversations, 2)
    assert [name for name in listed if name in made] == made[::-1]
    assert len(listed) == len(set(listed))
    assert listed == await names_of(conversations, 1000)


async def test_a_page_size_above_the_most_means_the_most(
    conversations: stubs.ConversationServiceStub,
) -> None:
    page = await conversations.ListConversations(pb.ListConversationsRequest(page_size=5000))
    assert not page.next_page_token


async def test_turns_are_listed_oldest_first_page_after_page(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub
) -> None:
    name = (await create(conversations)).name
    asked = [f"{number} {QUESTION}" for number in range(5)]
    for question in asked:
        await agent.AskQuestion(pb.AskQuestionRequest(question=question, conversation=name))
    listed, sizes = [], []
    request = pb.ListTurnsRequest(parent=name, page_size=2)
    while True:
        page = await conversations.ListTurns(request)
        listed += [turn.question for turn in page.turns]
        sizes.append(len(page.turns))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == asked
    assert sizes == [2, 2, 1]


async def test_a_page_has_a_hundred_turns_at_most(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub
) -> None:
    name = (await create(conversations)).name
    says = [pb.ChatStreamRequest(start=pb.ChatStart(conversation=name))]
    says += [pb.ChatStreamRequest(message=pb.ChatMessage(question=f"q{n}")) for n in range(101)]
    async for _ in agent.ChatStream(iter(says)):
        pass
    sizes = {
        page_size: len(
            (
                await conversations.ListTurns(pb.ListTurnsRequest(parent=name, page_size=page_size))
            ).turns
        )
        for page_size in (0, 99, 100, 101, 2**31 - 1)
    }
    assert sizes == {0: 50, 99: 99, 100: 100, 101: 100, 2**31 - 1: 100}


async def test_a_title_made_of_a_question_is_one_line_without_controls(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub
) -> None:
    request = pb.AskQuestionRequest(question="a\0b\n\x1b c?", conversation="conversations/-")
    name = (await agent.AskQuestion(request)).conversation
    kept = await conversations.GetConversation(pb.GetConversationRequest(name=name))
    assert kept.conversation.title == "a b c?"


async def test_a_page_token_works_for_its_own_list_alone(
    conversations: stubs.ConversationServiceStub,
    agent: stubs.AgentServiceStub,
    channel: grpc.aio.Channel,
    failure_of: Any,
) -> None:
    documents = stubs.DocumentServiceStub(channel)
    names = [(await create(conversations)).name for _ in range(2)]
    for name in names:
        for _ in range(2):
            await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, conversation=name))
    of_list = (
        await conversations.ListConversations(pb.ListConversationsRequest(page_size=1))
    ).next_page_token
    of_first = (
        await conversations.ListTurns(pb.ListTurnsRequest(parent=names[0], page_size=1))
    ).next_page_token
    assert of_list
    assert of_first
    for call in (
        conversations.ListTurns(pb.ListTurnsRequest(parent=names[1], page_token=of_first)),
        conversations.ListTurns(pb.ListTurnsRequest(parent=names[0], page_token=of_list)),
        conversations.ListConversations(pb.ListConversationsRequest(page_token=of_first)),
        documents.ListDocuments(
            pb.ListDocumentsRequest(parent="collections/default", page_token=of_list)
        ),
    ):
        failure = await failure_of(call)
        assert failure.code == "INVALID_ARGUMENT"
        assert list(failure.violations) == ["page_token"]


async def test_a_page_token_that_was_tampered_with_is_refused(
    conversations: stubs.ConversationServiceStub, failure_of: Any
) -> None:
    for _ in range(2):
        await create(conversations)
    page = await conversations.ListConversations(pb.ListConversationsRequest(page_size=1))
    token = page.next_page_token
    flipped = [
        token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        for at in range(len(token))
    ]
    for bad in (*flipped, token[:-1], token + "A", token + "=", token + "\n", "é", "0", "a" * 5000):
        failure = await failure_of(
            conversations.ListConversations(pb.ListConversationsRequest(page_token=bad))
        )
        assert failure.code == "INVALID_ARGUMENT", bad
        assert list(failure.violations) == ["page_token"]


async def test_a_deleted_conversation_is_gone(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub, failure_of: Any
) -> None:
    name = (await create(conversations)).name
    await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, conversation=name))
    await conversations.DeleteConversation(pb.DeleteConversationRequest(name=name))
    start = pb.ChatStreamRequest(start=pb.ChatStart(conversation=name))
    for call in (
        conversations.GetConversation(pb.GetConversationRequest(name=name)),
        conversations.ListTurns(pb.ListTurnsRequest(parent=name)),
        conversations.DeleteConversation(pb.DeleteConversationRequest(name=name)),
        agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, conversation=name)),
        agent.StreamAnswer(pb.StreamAnswerRequest(question=QUESTION, conversation=name)),
        agent.ChatStream(iter([start])),
    ):
        failure = await failure_of(call)
        assert (failure.code, failure.reason) == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")
        info = failure.detail("ResourceInfo")
        assert info.resource_type == "kotaemon/Conversation"
        assert info.resource_name == name
    assert name not in await names_of(conversations, 1000)
    again = await create(conversations, name=name)
    assert again.turn_count == 0


async def test_a_conversation_that_is_deleted_during_a_dialogue_ends_it(
    conversations: stubs.ConversationServiceStub, agent: stubs.AgentServiceStub, failure_of: Any
) -> None:
    name = (await create(conversations)).name
    call = agent.ChatStream()
    await call.write(pb.ChatStreamRequest(start=pb.ChatStart(conversation=name)))
    message = pb.ChatStreamRequest(message=pb.ChatMessage(question=QUESTION))
    await call.write(message)
    while not (await call.read()).HasField("turn_completed"):
        pass
    await conversations.DeleteConversation(pb.DeleteConversationRequest(name=name))
    await call.write(message)
    assert (await failure_of(call)).reason == "CONVERSATION_NOT_FOUND"


async def test_conversations_survive_a_restart_and_can_be_continued(
    start: Callable[..., Any], corpus: Any, questions: dict[str, Any]
) -> None:
    follow_up = questions["follow_ups"][0]
    first = start(f"--import={corpus / 'en'}")
    async with first.channel() as channel:
        answered = await stubs.AgentServiceStub(channel).AskQuestion(
            pb.AskQuestionRequest(question=follow_up["first"], conversation="conversations/-")
        )
        conversations = stubs.ConversationServiceStub(channel)
        await create(conversations)
        page = await conversations.ListConversations(pb.ListConversationsRequest(page_size=1))
    first.kill()
    async with start().channel() as channel:
        conversations = stubs.ConversationServiceStub(channel)
        turns = await conversations.ListTurns(pb.ListTurnsRequest(parent=answered.conversation))
        assert [turn.answer for turn in turns.turns] == [answered.answer]
        rest = await conversations.ListConversations(
            pb.ListConversationsRequest(page_token=page.next_page_token)
        )
        assert [kept.name for kept in rest.conversations] == [answered.conversation]
        response = await stubs.AgentServiceStub(channel).AskQuestion(
            pb.AskQuestionRequest(question=follow_up["then"], conversation=answered.conversation)
        )
        assert follow_up["contains"] in response.answer.text
