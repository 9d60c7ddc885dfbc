"""Dialogues, with a fake engine and fake stores."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from kotaemon_grpc.core.ask import NEW_CONVERSATION
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.errors import NotFound, ResourceType, StorageFull
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    FinishReason,
    Question,
    Scope,
    TextDelta,
)

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
CALLER = Caller("someone", "acme")
CONTEXT = Context(CALLER)


def question(text: str, collection: str = "default") -> Question:
    return Question(text, Scope(CALLER.tenant, collection))


async def test_a_dialogue_remembers_its_last_turns(new_house: Any) -> None:
    house = new_house(history_turns=2)
    dialogue = await house.asking.open(CONTEXT)
    for text in "abcd":
        assert (await dialogue.answer(question(text))).text == text
    assert house.engine.histories == [[], ["a"], ["a", "b"], ["b", "c"]]
    assert dialogue.conversation == ""
    assert not house.conversations.turns


@pytest.mark.parametrize("conversation", ["", NEW_CONVERSATION])
async def test_a_history_of_no_turns_is_empty(new_house: Any, conversation: str) -> None:
    house = new_house(history_turns=0)
    dialogue = await house.asking.open(CONTEXT, conversation)
    for text in "ab":
        await dialogue.answer(question(text))
    assert house.engine.histories == [[], []]


async def test_dialogues_do_not_share_a_memory(new_house: Any) -> None:
    house = new_house()
    for text in "ab":
        await (await house.asking.open(CONTEXT)).answer(question(text))
    assert house.engine.histories == [[], []]


async def test_a_new_conversation_comes_with_the_first_answer(new_house: Any) -> None:
    house = new_house()
    dialogue = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    assert (dialogue.conversation, house.conversations.turns) == ("", {})
    events = [event async for event in dialogue.ask(question("a"))]
    assert isinstance(events[-1], AnswerCompleted)
    assert events[-1].conversation == dialogue.conversation == "new-0"
    await dialogue.answer(question("b"))
    (turns,) = house.conversations.turns.values()
    assert [(turn.question, turn.collection, turn.created_at) for turn in turns] == [
        ("a", "default", NOW),
        ("b", "default", NOW),
    ]
    assert house.engine.histories == [[], ["a"]]


async def test_a_first_turn_that_cannot_be_kept_leaves_the_conversation_new(new_house: Any) -> None:
    house = new_house()
    dialogue = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    house.conversations.full = True
    with pytest.raises(StorageFull):
        await dialogue.answer(question("a"))
    assert (dialogue.conversation, house.conversations.turns) == ("", {})
    house.conversations.full = False
    await dialogue.answer(question("a"))
    assert list(house.conversations.turns) == [("acme", dialogue.conversation)]


async def test_a_kept_conversation_is_seen_as_others_leave_it(new_house: Any) -> None:
    house = new_house()
    await house.conversations.create("acme", "c", "")
    first, second = [await house.asking.open(CONTEXT, "c") for _ in range(2)]
    await first.answer(question("a"))
    await second.answer(question("b"))
    assert house.engine.histories == [[], ["a"]]


async def test_a_conversation_of_another_tenant_is_not_found(new_house: Any) -> None:
    house = new_house()
    await house.conversations.create("other", "c", "")
    with pytest.raises(NotFound) as raised:
        await house.asking.open(CONTEXT, "c")
    assert (raised.value.kind, raised.value.name) == (ResourceType.CONVERSATION, "conversations/c")


async def test_an_unknown_collection_costs_no_answer(new_house: Any) -> None:
    house = new_house()
    dialogue = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    with pytest.raises(NotFound) as raised:
        await dialogue.answer(question("a", "attic"))
    assert raised.value.kind is ResourceType.COLLECTION
    assert (house.engine.histories, house.conversations.turns) == ([], {})


async def test_an_engine_that_does_not_complete_is_a_fault_and_leaves_no_turn(
    new_house: Any,
) -> None:
    house = new_house()
    house.engine.completes = False
    dialogue = await house.asking.open(CONTEXT, NEW_CONVERSATION)
    with pytest.raises(RuntimeError, match="without completing"):
        await dialogue.answer(question("a"))
    assert (house.answers, house.conversations.turns) == ([], {})


async def test_nothing_comes_after_the_completed_answer(new_house: Any) -> None:
    house = new_house()
    house.engine.goes_on = True
    dialogue = await house.asking.open(CONTEXT)
    events = [event async for event in dialogue.ask(question("a"))]
    assert [type(event) for event in events] == [TextDelta, AnswerCompleted]
    assert house.engine.closed == 1


async def test_a_dialogue_that_is_left_stops_the_engine(new_house: Any) -> None:
    house = new_house()
    events = (await house.asking.open(CONTEXT)).ask(question("a"))
    assert isinstance(await anext(events), TextDelta)
    await events.aclose()
    assert house.engine.closed == 1
    assert not house.answers


async def test_the_engine_is_told_who_asks_and_until_when(new_house: Any) -> None:
    house = new_house()
    context = Context(CALLER, deadline_s=12.5)
    await (await house.asking.open(context)).answer(question("a"))
    assert house.engine.contexts == [context]


async def test_turns_of_a_collection_that_the_caller_may_not_see_are_no_history(
    new_house: Any,
) -> None:
    house = new_house(history_turns=3)
    await house.conversations.create("acme", "c", "")
    answer = Answer("…", (), FinishReason.ANSWERED)
    for text, collection in [("a", "default"), ("b", "board"), ("c", "default")]:
        turn = Turn(0, collection, text, answer, NOW)
        await house.conversations.append("acme", "c", turn)
    staff = Caller("staff", "acme", ("default",))
    for caller in (staff, CALLER):
        await (await house.asking.open(Context(caller), "c")).answer(question("d"))
    assert house.engine.histories == [["a", "c"], ["b", "c", "d"]]


async def test_what_a_slow_reader_did_not_take_comes_as_one(new_house: Any) -> None:
    house = new_house()
    house.engine.pieces = ["one ", "two ", "three ", "four"]
    events = (await house.asking.open(CONTEXT)).ask(question("one two three four"))
    assert await anext(events) == TextDelta("one ")
    # The engine writes on while the first piece is being sent.
    await house.engine.has_closed.wait()
    rest = [event async for event in events]
    assert rest[0] == TextDelta("two three four")
    assert isinstance(rest[1], AnswerCompleted)
    assert rest[1].answer.text == "one two three four"
    assert house.engine.closed == 1


async def test_the_turn_is_kept_before_the_last_event(new_house: Any) -> None:
    house = new_house()
    async for event in (await house.asking.open(CONTEXT, NEW_CONVERSATION)).ask(question("a")):
        assert len(house.conversations.turns) == isinstance(event, AnswerCompleted)


async def test_each_answer_is_told_once(new_house: Any) -> None:
    house = new_house()
    answer = await (await house.asking.open(CONTEXT)).answer(question("a"))
    assert house.answers == [answer]


async def test_a_turn_that_cannot_be_kept_is_no_answer(new_house: Any) -> None:
    house = new_house()
    await house.conversations.create("acme", "c", "")
    dialogue = await house.asking.open(CONTEXT, "c")
    events = dialogue.ask(question("a"))
    await anext(events)
    house.conversations.turns.clear()
    with pytest.raises(NotFound):
        await anext(events)
    assert not house.answers
