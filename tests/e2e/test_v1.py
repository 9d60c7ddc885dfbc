"""kotaemon.v1, under its own name and under the one that it was first published with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as v2_stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import grpc

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"
UNANSWERABLE = "What is the capital of Mongolia?"
REFERENCE = re.compile(r"(?P<uri>file:///.+)#char=(?P<start>\d+),(?P<end>\d+)")


@dataclass
class Agent:
    """A client of the first contract, whatever its messages were generated from."""

    question: Any
    message: Any
    ask: Any
    chat: Any

    async def turns(self, *messages: Any) -> AsyncIterator[Any]:
        for message in messages:
            yield message


def published() -> dict[str, Any]:
    """Make the messages that a client has who compiled the file of `package kotaemon;`."""
    text, time = (
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
        descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
    )
    file = descriptor_pb2.FileDescriptorProto(
        name="published/agent.proto", package="kotaemon", syntax="proto3"
    )

    def add(message: str, *fields: tuple[str, int, int, bool]) -> Any:
        descriptor = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            descriptor.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
        return descriptor

    question = add("QuestionRequest", ("query", 1, text, False))
    entry = question.nested_type.add(name="ContextEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=text, label=1)
    entry.field.add(name="value", number=2, type=text, label=1)
    question.field.add(
        name="context",
        number=2,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".kotaemon.QuestionRequest.ContextEntry",
        label=3,
    )
    add("AnswerResponse", ("answer", 1, text, False), ("references", 2, text, True))
    add(
        "Message",
        ("role", 1, text, False),
        ("content", 2, text, False),
        ("timestamp", 3, time, False),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"kotaemon.{name}"))
        for name in ("QuestionRequest", "AnswerResponse", "Message")
    }


GENERATED = {name: getattr(v1, name) for name in ("QuestionRequest", "AnswerResponse", "Message")}


@pytest.fixture(params=["kotaemon.v1.AgentService", "kotaemon.AgentService"])
def agent(request: pytest.FixtureRequest, channel: grpc.aio.Channel) -> Agent:
    types = GENERATED if request.param.startswith("kotaemon.v1") else published()
    return Agent(
        types["QuestionRequest"],
        types["Message"],
        channel.unary_unary(
            f"/{request.param}/AskQuestion",
            types["QuestionRequest"].SerializeToString,
            types["AnswerResponse"].FromString,
        ),
        channel.stream_stream(
            f"/{request.param}/ChatStream",
            types["Message"].SerializeToString,
            types["Message"].FromString,
        ),
    )


async def test_a_question_is_answered_with_references_to_the_words_it_quotes(
    agent: Agent, text_at: Callable[[str], str], squeezed: Callable[[str], str]
) -> None:
    response = await agent.ask(agent.question(query=QUESTION))
    assert ANSWER in response.answer
    assert response.references
    assert len(set(response.references)) == len(response.references)
    for reference in response.references:
        place = REFERENCE.fullmatch(reference)
        assert place is not None
        cited = text_at(place["uri"])[int(place["start"]) : int(place["end"])]
        assert cited.strip()
        assert squeezed(cited) in squeezed(response.answer)
    assert response.references[0].partition("#")[0].endswith("/en/vessels.md")


async def test_a_question_that_the_documents_do_not_answer_has_no_references(agent: Agent) -> None:
    response = await agent.ask(agent.question(query=UNANSWERABLE))
    assert "found nothing" in response.answer
    assert not response.references


async def test_the_context_sets_the_language_of_what_the_server_says(agent: Agent) -> None:
    response = await agent.ask(agent.question(query=UNANSWERABLE, context={"language": "zh-CN"}))
    assert "没有找到" in response.answer


@pytest.mark.parametrize("prefix", ["", "collections/"])
async def test_the_context_names_the_collection(
    agent: Agent, channel: grpc.aio.Channel, prefix: str
) -> None:
    await v2_stubs.DocumentServiceStub(channel).ImportDocument(
        iter(
            [
                v2.ImportDocumentRequest(
                    header=v2.ImportDocumentHeader(
                        parent="collections/v1-context", document_id="note"
                    )
                ),
                v2.ImportDocumentRequest(chunk=b"The parrot of the purser is called Hieronymus."),
            ]
        )
    )
    question = agent.question(
        query="What is the parrot of the purser called?",
        context={"collection": f"{prefix}v1-context", "trace": "passed to the engine"},
    )
    assert "Hieronymus" in (await agent.ask(question)).answer


@pytest.mark.parametrize("prefix", ["", "conversations/"])
async def test_the_context_names_the_conversation(
    agent: Agent, channel: grpc.aio.Channel, prefix: str, questions: dict[str, Any]
) -> None:
    conversations = v2_stubs.ConversationServiceStub(channel)
    kept = await conversations.CreateConversation(v2.CreateConversationRequest())
    name = kept.conversation.name
    context = {"conversation": prefix + name.removeprefix("conversations/")}
    follow_up = questions["follow_ups"][0]
    await agent.ask(agent.question(query=follow_up["first"], context=context))
    response = await agent.ask(agent.question(query=follow_up["then"], context=context))
    assert follow_up["contains"] in response.answer
    turns = await conversations.ListTurns(v2.ListTurnsRequest(parent=name))
    assert [turn.question for turn in turns.turns] == [follow_up["first"], follow_up["then"]]


async def test_an_unknown_conversation_is_not_found(agent: Agent, failure_of: Any) -> None:
    question = agent.question(query=QUESTION, context={"conversation": "never-was"})
    failure = await failure_of(agent.ask(question))
    assert (failure.code, failure.reason) == ("NOT_FOUND", "CONVERSATION_NOT_FOUND")


async def test_an_unknown_collection_is_not_found(agent: Agent, failure_of: Any) -> None:
    question = agent.question(query=QUESTION, context={"collection": "never-was"})
    failure = await failure_of(agent.ask(question))
    assert (failure.code, failure.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")


async def test_turns_of_a_chat_are_answered_by_the_assistant(agent: Agent) -> None:
    call = agent.chat(
        agent.turns(
            agent.message(role="user", content=QUESTION, timestamp=-5),
            agent.message(role="user", content=UNANSWERABLE),
        )
    )
    messages = [message async for message in call]
    assert {message.role for message in messages} == {"assistant"}
    assert all(message.timestamp > 1_700_000_000 and message.content for message in messages)
    said = "".join(message.content for message in messages)
    assert said.index(ANSWER) < said.index("found nothing")


async def test_a_turn_is_answered_before_the_next_one_is_sent(agent: Agent) -> None:
    call = agent.chat()
    for question, piece in ((QUESTION, ANSWER), (UNANSWERABLE, "found nothing")):
        await call.write(agent.message(role="user", content=question))
        said = ""
        while piece not in said:
            said += (await call.read()).content
    await call.done_writing()
    assert (await call.code()).name == "OK"


async def test_a_chat_is_answered_with_its_earlier_turns(
    agent: Agent, questions: dict[str, Any]
) -> None:
    follow_up = questions["follow_ups"][0]

    async def answer_to(*texts: str) -> str:
        messages = [agent.message(role="user", content=text) for text in texts]
        return "".join([m.content async for m in agent.chat(agent.turns(*messages))])

    assert follow_up["contains"] in await answer_to(follow_up["first"], follow_up["then"])
    assert follow_up["contains"] not in await answer_to(follow_up["then"])


@pytest.mark.parametrize("role", ["", "assistant", "system", "User"])
async def test_another_role_than_the_users_is_refused(
    agent: Agent, role: str, failure_of: Any
) -> None:
    failure = await failure_of(agent.chat(agent.turns(agent.message(role=role, content=QUESTION))))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert list(failure.violations) == ["role"]


@pytest.mark.parametrize("content", ["", " \n\t", "\u3000", "a" * 8193])
async def test_a_message_without_a_question_is_refused(
    agent: Agent, content: str, failure_of: Any
) -> None:
    call = agent.chat(agent.turns(agent.message(role="user", content=content)))
    failure = await failure_of(call)
    assert failure.code == "INVALID_ARGUMENT"
    assert list(failure.violations) == ["content"]


async def test_a_bad_turn_does_not_take_back_what_was_answered(
    agent: Agent, failure_of: Any
) -> None:
    call = agent.chat(
        agent.turns(
            agent.message(role="user", content=QUESTION),
            agent.message(role="robot", content=QUESTION),
        )
    )
    assert ANSWER in (await call.read()).content
    assert (await failure_of(call)).code == "INVALID_ARGUMENT"


async def test_a_chat_that_ends_at_once_is_a_chat_without_turns(agent: Agent) -> None:
    call = agent.chat(agent.turns())
    assert [message async for message in call] == []
    assert (await call.code()).name == "OK"


@pytest.mark.parametrize(
    ("query", "context", "field"),
    [
        ("", {}, "query"),
        ("   ", {}, "query"),
        ("a" * 8193, {}, "query"),
        (QUESTION, {str(number): "" for number in range(33)}, "context"),
        (QUESTION, {"": "x"}, "context"),
        (QUESTION, {"k" * 65: "x"}, "context"),
        (QUESTION, {"k": "x" * 4097}, 'context["k"]'),
        (QUESTION, {"collection": "No Such"}, 'context["collection"]'),
        (QUESTION, {"conversation": "../x"}, 'context["conversation"]'),
        (QUESTION, {"conversation": "-"}, 'context["conversation"]'),
        (QUESTION, {"conversation": "conversations/-"}, 'context["conversation"]'),
        (QUESTION, {"language": "not a tag"}, 'context["language"]'),
    ],
)
async def test_a_field_that_breaks_a_constraint_is_named(
    agent: Agent, query: str, context: dict[str, str], field: str, failure_of: Any
) -> None:
    failure = await failure_of(agent.ask(agent.question(query=query, context=context)))
    assert failure.code == "INVALID_ARGUMENT"
    assert list(failure.violations) == [field]


async def test_the_longest_question_and_the_fullest_context_are_taken(agent: Agent) -> None:
    context = {f"{number:064d}": "x" * 4096 for number in range(32)}
    response = await agent.ask(agent.question(query="é" * 8192, context=context))
    assert response.answer
