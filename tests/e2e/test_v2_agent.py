"""kotaemon.v2.AgentService: whole answers, streams of events, dialogues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"
UNANSWERABLE = "What is the capital of Mongolia?"


@pytest.fixture
def agent(channel: grpc.aio.Channel) -> stubs.AgentServiceStub:
    return stubs.AgentServiceStub(channel)


@pytest.fixture
def conversations(channel: grpc.aio.Channel) -> stubs.ConversationServiceStub:
    return stubs.ConversationServiceStub(channel)


async def says(*requests: pb.ChatStart | str | None) -> AsyncIterator[pb.ChatStreamRequest]:
    for request in requests:
        if request is None:
            yield pb.ChatStreamRequest()
        elif isinstance(request, str):
            yield pb.ChatStreamRequest(message=pb.ChatMessage(question=request))
        else:
            yield pb.ChatStreamRequest(start=request)


async def events_of(call: Any) -> list[Any]:
    return [event async for event in call]


def kinds(events: Iterable[Any]) -> list[str]:
    return [event.WhichOneof("event") for event in events]


def numbered(events: list[Any]) -> bool:
    return [event.sequence_number for event in events] == list(range(1, len(events) + 1))


async def test_a_question_is_answered_with_its_sources(agent: stubs.AgentServiceStub) -> None:
    response = await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION))
    answer = response.answer
    assert ANSWER in answer.text
    assert answer.finish_reason == pb.FINISH_REASON_ANSWERED
    assert response.conversation == ""
    assert answer.usage.passages > 0
    assert not answer.usage.HasField("input_tokens")
    assert not answer.usage.HasField("output_tokens")
    source = answer.citations[0]
    assert source.uri.endswith("/en/vessels.md")
    assert source.document.startswith("collections/default/documents/")
    assert source.title
    assert source.location.headings[-1] == "Marigold"


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_citations_are_verbatim_and_exact(
    agent: stubs.AgentServiceStub,
    questions: dict[str, Any],
    text_at: Callable[[str], str],
    squeezed: Callable[[str], str],
    language: str,
) -> None:
    seen = 0
    for question in (q for q in questions["answerable"] if q["language"] == language):
        response = await agent.AskQuestion(pb.AskQuestionRequest(question=question["question"]))
        answer = response.answer
        for citation in answer.citations:
            seen += 1
            place = citation.location
            cited = text_at(citation.uri)[place.start_offset : place.end_offset]
            assert squeezed(cited) == squeezed(citation.snippet) != ""
            assert citation.snippet == " ".join(citation.snippet.split())
            assert citation.score > 0
            assert citation.spans
            for span in citation.spans:
                assert answer.text[span.start_offset : span.end_offset] == citation.snippet
    assert seen >= len(questions["answerable"]) // 3


async def test_every_word_of_an_answer_is_cited(
    agent: stubs.AgentServiceStub, questions: dict[str, Any], squeezed: Callable[[str], str]
) -> None:
    for question in questions["answerable"][::7]:
        answer = (
            await agent.AskQuestion(pb.AskQuestionRequest(question=question["question"]))
        ).answer
        bare = list(answer.text)
        for citation in answer.citations:
            for span in citation.spans:
                bare[span.start_offset : span.end_offset] = [""] * (
                    span.end_offset - span.start_offset
                )
        assert squeezed("".join(bare)) == ""


@pytest.mark.parametrize(
    ("question", "language", "words"),
    [
        (UNANSWERABLE, "", "found nothing"),
        ("珠穆朗玛峰有多高", "", "没有找到"),
        (UNANSWERABLE, "zh-Hant", "没有找到"),
        ("珠穆朗玛峰有多高", "en", "found nothing"),
        (UNANSWERABLE, "tlh", "found nothing"),
    ],
)
async def test_nothing_found_is_said_in_the_language_that_is_wanted(
    agent: stubs.AgentServiceStub, question: str, language: str, words: str
) -> None:
    request = pb.AskQuestionRequest(question=question, language_code=language)
    answer = (await agent.AskQuestion(request)).answer
    assert answer.finish_reason == pb.FINISH_REASON_NOTHING_FOUND
    assert words in answer.text
    assert not answer.citations


@pytest.mark.parametrize("question", [QUESTION, UNANSWERABLE, "理事会有多少名理事"])
async def test_a_stream_of_events_is_the_whole_answer_in_pieces(
    agent: stubs.AgentServiceStub, question: str
) -> None:
    events = await events_of(agent.StreamAnswer(pb.StreamAnswerRequest(question=question)))
    whole = (await agent.AskQuestion(pb.AskQuestionRequest(question=question))).answer
    assert numbered(events)
    assert kinds(events)[-1] == "completed"
    assert set(kinds(events)[:-1]) <= {"text_delta", "citation"}
    pieces = [event.text_delta.text for event in events if event.HasField("text_delta")]
    assert all(pieces)
    completed = events[-1].completed
    assert "".join(pieces) == completed.answer.text == whole.text
    assert [e.citation for e in events if e.HasField("citation")] == list(
        completed.answer.citations
    )
    assert completed.answer.finish_reason == whole.finish_reason
    assert completed.conversation == ""


async def test_a_stream_can_start_a_conversation(
    agent: stubs.AgentServiceStub, conversations: stubs.ConversationServiceStub
) -> None:
    request = pb.StreamAnswerRequest(question=QUESTION, conversation="conversations/-")
    completed = (await events_of(agent.StreamAnswer(request)))[-1].completed
    turns = await conversations.ListTurns(pb.ListTurnsRequest(parent=completed.conversation))
    assert [(turn.question, turn.answer) for turn in turns.turns] == [(QUESTION, completed.answer)]


async def test_a_failed_stream_ends_in_the_event_and_in_the_same_status(
    agent: stubs.AgentServiceStub, failure_of: Any
) -> None:
    call = agent.StreamAnswer(
        pb.StreamAnswerRequest(question=QUESTION, collection="collections/never-was")
    )
    event = await call.read()
    assert (event.sequence_number, event.WhichOneof("event")) == (1, "failed")
    failure = await failure_of(call)
    assert failure.code == "NOT_FOUND"
    assert event.failed == failure.status


async def test_a_dialogue_numbers_its_turns_and_its_events(agent: stubs.AgentServiceStub) -> None:
    events = await events_of(agent.ChatStream(says(pb.ChatStart(), QUESTION, UNANSWERABLE)))
    assert numbered(events)
    turn_numbers = [event.turn_number for event in events]
    assert turn_numbers == [*sorted(turn_numbers[:-1]), 0]
    assert set(turn_numbers) == {0, 1, 2}
    assert kinds(events).count("turn_completed") == 2
    assert kinds(events)[-2:] == ["turn_completed", "completed"]
    assert events[-1].completed.conversation == ""
    for turn in (1, 2):
        mine = [event for event in events if event.turn_number == turn]
        answer = mine[-1].turn_completed.answer
        assert "".join(event.text_delta.text for event in mine) == answer.text
        assert [e.citation for e in mine if e.HasField("citation")] == list(answer.citations)


async def test_a_dialogue_needs_no_start(agent: stubs.AgentServiceStub) -> None:
    events = await events_of(agent.ChatStream(says(QUESTION)))
    assert ANSWER in events[-2].turn_completed.answer.text


async def test_a_turn_is_answered_before_the_next_one_is_sent(
    agent: stubs.AgentServiceStub,
) -> None:
    call = agent.ChatStream()
    for turn, question in enumerate((QUESTION, UNANSWERABLE), 1):
        await call.write(pb.ChatStreamRequest(message=pb.ChatMessage(question=question)))
        while not (event := await call.read()).HasField("turn_completed"):
            assert event.turn_number == turn
    await call.done_writing()
    assert (await call.read()).HasField("completed")
    assert await call.read() is grpc.aio.EOF


async def test_a_dialogue_that_ends_at_once_is_completed(agent: stubs.AgentServiceStub) -> None:
    for requests in (
        says(),
        says(pb.ChatStart()),
        says(pb.ChatStart(conversation="conversations/-")),
    ):
        events = await events_of(agent.ChatStream(requests))
        assert kinds(events) == ["completed"]
        assert (events[0].sequence_number, events[0].turn_number) == (1, 0)
        assert events[0].completed.conversation == ""


async def test_a_conversation_goes_on_in_another_dialogue(
    agent: stubs.AgentServiceStub,
    conversations: stubs.ConversationServiceStub,
    questions: dict[str, Any],
) -> None:
    follow_up = questions["follow_ups"][0]
    start = pb.ChatStart(conversation="conversations/-")
    first = await events_of(agent.ChatStream(says(start, follow_up["first"])))
    name = first[-1].completed.conversation
    assert name.startswith("conversations/")
    assert first[-2].turn_completed.conversation == name
    again = await events_of(
        agent.ChatStream(says(pb.ChatStart(conversation=name), follow_up["then"]))
    )
    assert follow_up["contains"] in again[-2].turn_completed.answer.text
    assert again[-1].completed.conversation == name
    assert again[-2].turn_number == 1
    kept = await conversations.GetConversation(pb.GetConversationRequest(name=name))
    assert kept.conversation.turn_count == 2


async def test_a_start_says_which_collection_and_language_all_turns_have(
    agent: stubs.AgentServiceStub, failure_of: Any
) -> None:
    start = pb.ChatStart(language_code="zh", context={"any": "thing"})
    events = await events_of(agent.ChatStream(says(start, QUESTION, UNANSWERABLE)))
    assert "没有找到" in events[-2].turn_completed.answer.text
    elsewhere = says(pb.ChatStart(collection="collections/never-was"), QUESTION)
    failure = await failure_of(agent.ChatStream(elsewhere))
    assert failure.reason == "COLLECTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("requests", "field", "answered"),
    [
        ((QUESTION, pb.ChatStart()), "start", 1),
        ((pb.ChatStart(), pb.ChatStart()), "start", 0),
        ((pb.ChatStart(language_code="en"), pb.ChatStart()), "start", 0),
        ((None,), "request", 0),
        ((QUESTION, None), "request", 1),
        ((" ",), "message.question", 0),
        ((QUESTION, "a" * 8193), "message.question", 1),
        ((pb.ChatStart(collection="nope"),), "start.collection", 0),
        ((pb.ChatStart(conversation="nope"),), "start.conversation", 0),
        ((pb.ChatStart(language_code="_"),), "start.language_code", 0),
        ((pb.ChatStart(context={"": "x"}),), "start.context", 0),
        ((pb.ChatStart(context={"k": "x" * 4097}),), 'start.context["k"]', 0),
    ],
)
async def test_a_bad_message_ends_the_dialogue_and_keeps_what_was_answered(
    agent: stubs.AgentServiceStub,
    requests: tuple[Any, ...],
    field: str,
    answered: int,
    failure_of: Any,
) -> None:
    call = agent.ChatStream(says(*requests))
    events = []
    while not events or not events[-1].HasField("failed"):
        events.append(await call.read())
    failure = await failure_of(call)
    assert failure.code == "INVALID_ARGUMENT"
    assert list(failure.violations) == [field]
    assert numbered(events)
    assert events[-1].failed == failure.status
    assert events[-1].turn_number == 0
    assert kinds(events).count("turn_completed") == answered


async def test_a_dialogue_of_an_unknown_conversation_fails_before_a_turn(
    agent: stubs.AgentServiceStub,
) -> None:
    call = agent.ChatStream()
    start = pb.ChatStart(conversation="conversations/never-was")
    await call.write(pb.ChatStreamRequest(start=start))
    assert (await call.read()).WhichOneof("event") == "failed"
    assert (await call.code()).name == "NOT_FOUND"
