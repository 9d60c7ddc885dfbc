"""Questions that have a name, alone and as turns of dialogues."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.ask import NEW_CONVERSATION
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import RequestIdReused
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    Citation,
    CitationAdded,
    DocumentRef,
    FinishReason,
    Location,
    Question,
    Scope,
    Span,
    TextDelta,
)
from kotaemon_grpc.core.once import Answered, Claim

if TYPE_CHECKING:
    from kotaemon_grpc.core.ask import Dialogue

CALLER = Caller("someone", "acme")
CONTEXT = Context(CALLER)
HERE = Scope("acme")


def claim(request_id: str, content: bytes = b"") -> Claim:
    return Claim("acme", "someone", request_id, content or request_id.encode())


async def told(dialogue: Dialogue, text: str, claimed: Claim | None) -> list[Any]:
    return [event async for event in dialogue.ask(Question(text, HERE), claimed)]


@pytest.mark.parametrize("conversation", ["", NEW_CONVERSATION])
async def test_a_question_that_is_repeated_is_answered_once(
    new_house: Any, conversation: str
) -> None:
    house = new_house()
    house.engine.pieces = ["why", " not"]
    events = []
    for _ in range(3):
        dialogue = await house.asking.open(CONTEXT, conversation)
        events.append(await told(dialogue, "why not", claim("r-1")))
    assert len(house.engine.histories) == len(house.answers) == 1
    completed = events[0][-1]
    assert [type(event) for event in events[1]] == [TextDelta, AnswerCompleted]
    assert events[1] == events[2] == [TextDelta("why not"), completed]
    assert completed.conversation == dialogue.conversation
    assert sum(map(len, house.conversations.turns.values())) == bool(conversation)


async def test_an_answer_is_repeated_with_its_citations(new_house: Any) -> None:
    house = new_house()
    document = DocumentRef("guide", HERE, "Guide", "file:///guide.md")
    citation = Citation(document, Location((), 0, 3), "why", 1.0, (Span(0, 3),))
    answer = Answer("why", (citation, citation), FinishReason.ANSWERED)
    await house.requests.remember(claim("r-1"), Answered(answer))
    events = await told(await house.asking.open(CONTEXT), "why", claim("r-1"))
    assert events == [
        TextDelta("why"),
        CitationAdded(citation),
        CitationAdded(citation),
        AnswerCompleted(answer),
    ]


async def test_a_whole_answer_is_repeated_too(new_house: Any) -> None:
    house = new_house()
    names = []
    for _ in range(2):
        dialogue = await house.asking.open(CONTEXT, NEW_CONVERSATION)
        assert (await dialogue.answer(Question("why", HERE), claim("r-1"))).text == "why"
        names.append(dialogue.conversation)
    assert names == ["new-0", "new-0"]
    assert len(house.engine.histories) == 1


async def test_a_question_with_an_id_that_was_used_is_not_answered(new_house: Any) -> None:
    house = new_house()
    dialogue = await house.asking.open(CONTEXT)
    await told(dialogue, "why", claim("r-1"))
    with pytest.raises(RequestIdReused):
        await told(dialogue, "when", claim("r-1", b"other"))
    assert len(house.engine.histories) == 1


async def test_a_dialogue_that_is_repeated_goes_on_where_it_was_cut(new_house: Any) -> None:
    house = new_house()
    first = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    await told(first, "a", claim("r-1"))
    second = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    await told(second, "a", claim("r-1"))
    await told(second, "b", claim("r-2"))
    assert second.conversation == first.conversation
    (turns,) = house.conversations.turns.values()
    assert [turn.question for turn in turns] == ["a", "b"]
    assert house.engine.histories == [[], ["a"]]


async def test_a_dialogue_that_is_forgotten_has_repeated_turns_in_its_history(
    new_house: Any,
) -> None:
    house = new_house()
    await told(await house.asking.open(CONTEXT), "a", claim("r-1"))
    again = await house.asking.open(CONTEXT)
    await told(again, "a", claim("r-1"))
    await told(again, "b", None)
    assert house.engine.histories == [[], ["a"]]


async def test_a_conversation_that_was_begun_is_not_left_for_a_repeated_turn(
    new_house: Any,
) -> None:
    house = new_house()
    await told(await house.asking.open(CONTEXT, NEW_CONVERSATION), "a", claim("r-1"))
    other = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    await told(other, "b", None)
    repeated = await told(other, "a", claim("r-1"))
    assert repeated[-1].conversation == "new-0"
    assert other.conversation == "new-1"


@pytest.mark.parametrize("conversation", ["", NEW_CONVERSATION])
async def test_an_answer_that_another_server_gave_meanwhile_counts(
    new_house: Any, conversation: str
) -> None:
    house = new_house()
    dialogue = await house.asking.open(CONTEXT, conversation)
    events = dialogue.ask(Question("why", HERE), claim("r-1"))
    assert await anext(events) == TextDelta("why")
    theirs = Answered(Answer("theirs", (), FinishReason.ANSWERED), "c" if conversation else "")
    await house.requests.remember(claim("r-1"), theirs)
    rest = [event async for event in events]
    assert rest == [AnswerCompleted(theirs.answer, theirs.conversation)]
    assert dialogue.conversation == theirs.conversation
    assert (house.answers, house.conversations.turns) == ([], {})


async def test_the_engine_is_told_the_name_of_a_question(new_house: Any) -> None:
    house = new_house()
    context = Context(CALLER, deadline_s=12.5)
    dialogue = await house.asking.open(context)
    await told(dialogue, "a", claim("r-1"))
    await told(dialogue, "b", None)
    assert house.engine.contexts == [Context(CALLER, 12.5, "r-1"), context]


async def test_a_stream_that_is_left_lets_the_next_attempt_work(new_house: Any) -> None:
    house = new_house()
    left = (await house.asking.open(CONTEXT)).ask(Question("why", HERE), claim("r-1"))
    await anext(left)
    waiting = asyncio.create_task(told(await house.asking.open(CONTEXT), "why", claim("r-1")))
    await asyncio.sleep(0)
    assert len(house.engine.histories) == 1
    await left.aclose()
    assert (await waiting)[-1].answer.text == "why"
    assert len(house.engine.histories) == 2
