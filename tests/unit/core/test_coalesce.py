"""Merging what was not taken yet; turns of the event loop are counted, never time."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.coalesce import coalesced
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    Citation,
    CitationAdded,
    DocumentRef,
    FinishReason,
    Location,
    Scope,
    TextDelta,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from kotaemon_grpc.core.model import AnswerEvent

A, B, C, D = (TextDelta(letter) for letter in "abcd")
DONE = AnswerCompleted(Answer("", (), FinishReason.ANSWERED))
WHO: ContextVar[str] = ContextVar("who", default="nobody")


class BrokenError(Exception):
    """What a fake raises."""


def citation(name: str) -> CitationAdded:
    document = DocumentRef(name, Scope("acme"), "", "")
    return CitationAdded(Citation(document, Location((), 0, 1), name, 1.0, ()))


ONE, TWO, THREE = (citation(name) for name in ("one", "two", "three"))


class Engine:
    """Yields its events without a pause, raises at the end if told to, and keeps count."""

    def __init__(self, *events: AnswerEvent, error: Exception | None = None) -> None:
        self.events = events
        self.error = error
        self.yielded = 0
        self.closed = 0

    async def answer(self) -> AsyncGenerator[AnswerEvent, None]:
        try:
            for event in self.events:
                self.yielded += 1
                yield event
            if self.error:
                raise self.error
        finally:
            self.closed += 1


class Hanging(Engine):
    """Waits after its events, as for a model; its closing takes some turns of the loop."""

    def __init__(self, *events: AnswerEvent) -> None:
        super().__init__(*events)
        self.waits = asyncio.Event()
        self.cancelled = 0

    async def answer(self) -> AsyncGenerator[AnswerEvent, None]:
        async for event in super().answer():
            yield event
        try:
            self.waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await turns_of_the_loop()
            self.cancelled += 1
            raise


async def turns_of_the_loop(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def read(written: AsyncGenerator[AnswerEvent, None], taken: list[AnswerEvent]) -> None:
    async with aclosing(coalesced(written)) as events:
        async for event in events:
            taken.append(event)
            await turns_of_the_loop()


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """Find tasks that outlive a test, and errors that only the loop was told of."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert told == []


async def test_a_reader_that_keeps_up_gets_every_piece_as_it_is_written() -> None:
    engine = Engine(A, B, ONE, C, DONE)

    async def paced() -> AsyncGenerator[AnswerEvent, None]:
        async for event in engine.answer():
            await turns_of_the_loop()
            yield event

    assert [event async for event in coalesced(paced())] == [A, B, ONE, C, DONE]


async def test_the_first_piece_is_taken_before_the_second_is_written() -> None:
    engine = Engine(A, B, C, D, DONE)
    events = coalesced(engine.answer())
    assert await anext(events) == A
    assert engine.yielded == 1
    await events.aclose()


async def test_what_was_not_taken_yet_comes_as_one() -> None:
    events = coalesced(Engine(A, B, C, D, DONE).answer())
    assert await anext(events) == A
    await turns_of_the_loop()
    assert [event async for event in events] == [TextDelta("bcd"), DONE]


async def test_text_is_merged_with_its_neighbours_only() -> None:
    events = coalesced(Engine(ONE, A, B, TWO, THREE, C, D, DONE).answer())
    assert await anext(events) == ONE
    await turns_of_the_loop()
    rest = [event async for event in events]
    assert rest == [TextDelta("ab"), TWO, THREE, TextDelta("cd"), DONE]


async def test_writing_pauses_when_many_characters_wait_and_goes_on_when_they_are_taken() -> None:
    engine = Engine(*[A] * 100, DONE)
    events = coalesced(engine.answer(), max_waiting_chars=10)
    assert await anext(events) == A
    for _ in range(3):
        before = engine.yielded
        await turns_of_the_loop(50)
        assert await anext(events) == TextDelta("a" * 10)
        assert engine.yielded == before + 10
    await events.aclose()


async def test_writing_pauses_when_many_events_wait() -> None:
    engine = Engine(*[ONE] * 100, DONE)
    events = coalesced(engine.answer(), max_waiting_events=4)
    await anext(events)
    await turns_of_the_loop(50)
    assert engine.yielded == 5
    assert [event async for event in events] == [*[ONE] * 99, DONE]


@pytest.mark.parametrize("seed", range(30))
async def test_nothing_is_lost_or_moved_whatever_the_pace(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same in every run
    letters = "abcdefghijklmnopqrstuvwxyz"
    written: list[AnswerEvent] = [
        TextDelta(chance.choice(letters)) if chance.random() < 0.8 else citation(str(number))
        for number in range(200)
    ]

    async def paced() -> AsyncGenerator[AnswerEvent, None]:
        for event in [*written, DONE]:
            await turns_of_the_loop(chance.choice([0, 0, 0, 1, 2, 5]))
            yield event

    taken = []
    async for event in coalesced(paced(), max_waiting_chars=7, max_waiting_events=3):
        taken.append(event)
        await turns_of_the_loop(chance.choice([0, 0, 1, 2, 8]))
    assert flat(taken) == flat([*written, DONE])
    assert len(taken) < len(written)


def flat(events: Sequence[AnswerEvent]) -> list[object]:
    """Cut text into characters, so that merging makes no difference."""
    return [
        piece
        for event in events
        for piece in (event.text if isinstance(event, TextDelta) else [event])
    ]


async def test_an_error_comes_after_what_was_written_before_it() -> None:
    engine = Engine(A, B, ONE, C, error=BrokenError())
    taken: list[AnswerEvent] = []
    with pytest.raises(BrokenError):
        await read(engine.answer(), taken)
    assert taken == [A, TextDelta("b"), ONE, C]
    assert engine.closed == 1


async def test_what_ends_without_completing_just_ends() -> None:
    assert [event async for event in coalesced(Engine(A).answer())] == [A]
    assert [event async for event in coalesced(Engine().answer())] == []


async def test_nothing_is_asked_for_after_the_completed_answer() -> None:
    engine = Engine(A, DONE, B)
    assert [event async for event in coalesced(engine.answer())] == [A, DONE]
    assert (engine.yielded, engine.closed) == (2, 1)


async def test_whoever_leaves_while_it_is_written_ends_the_writing_and_waits_for_it() -> None:
    engine = Hanging(A)
    events = coalesced(engine.answer())
    assert await anext(events) == A
    await engine.waits.wait()
    await events.aclose()
    assert (engine.cancelled, engine.closed) == (1, 1)


async def test_whoever_leaves_while_writing_pauses_ends_it() -> None:
    engine = Engine(*[A] * 100)
    events = coalesced(engine.answer(), max_waiting_chars=2)
    await anext(events)
    await turns_of_the_loop()
    await events.aclose()
    assert engine.closed == 1


async def test_whoever_leaves_with_the_completed_answer_lets_the_engine_finish() -> None:
    finished = []

    async def answer() -> AsyncGenerator[AnswerEvent, None]:
        try:
            yield DONE
        finally:
            await turns_of_the_loop()
            finished.append("cleanly")

    async with aclosing(coalesced(answer())) as events:
        assert await anext(events) == DONE
    assert finished == ["cleanly"]


async def test_an_error_after_the_reader_left_is_nobodys() -> None:
    events = coalesced(Engine(A, B, error=BrokenError()).answer())
    await anext(events)
    await turns_of_the_loop()
    await events.aclose()


async def test_an_error_while_the_writing_is_ended_is_nobodys() -> None:
    async def answer() -> AsyncGenerator[AnswerEvent, None]:
        try:
            yield A
            await asyncio.Event().wait()
        finally:
            raise BrokenError

    events = coalesced(answer())
    await anext(events)
    await turns_of_the_loop()
    await events.aclose()


async def test_a_reader_that_is_cancelled_while_it_waits_cancels_the_engine() -> None:
    engine = Hanging(A)
    taken: list[AnswerEvent] = []
    reader = asyncio.create_task(read(engine.answer(), taken))
    await engine.waits.wait()
    await turns_of_the_loop()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (taken, engine.cancelled, engine.closed) == ([A], 1, 1)


@pytest.mark.parametrize("turns", range(8))
async def test_a_reader_may_be_cancelled_at_any_moment(turns: int) -> None:
    engine = Hanging(A, B, ONE)
    reader = asyncio.create_task(read(engine.answer(), []))
    await turns_of_the_loop(turns)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert engine.closed == bool(engine.yielded)


async def test_a_cancellation_during_the_end_is_not_lost() -> None:
    closing = asyncio.Event()

    async def answer() -> AsyncGenerator[AnswerEvent, None]:
        try:
            yield A
            await asyncio.Event().wait()
        finally:
            closing.set()
            await asyncio.Event().wait()

    async def leave() -> None:
        events = coalesced(answer())
        await anext(events)
        await turns_of_the_loop()
        await events.aclose()

    leaving = asyncio.create_task(leave())
    await closing.wait()
    await turns_of_the_loop()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_an_engine_that_is_cancelled_by_itself_cancels_its_reader() -> None:
    async def answer() -> AsyncGenerator[AnswerEvent, None]:
        yield A
        raise asyncio.CancelledError

    taken: list[AnswerEvent] = []
    with pytest.raises(asyncio.CancelledError):
        await read(answer(), taken)
    assert taken == [A]


async def test_the_engine_sees_the_context_variables_of_its_caller() -> None:
    async def answer() -> AsyncGenerator[AnswerEvent, None]:
        yield TextDelta(WHO.get())
        WHO.set("the engine")

    WHO.set("the caller")
    assert [event async for event in coalesced(answer())] == [TextDelta("the caller")]
    assert WHO.get() == "the caller"


async def test_nothing_runs_before_the_first_event_is_asked_for() -> None:
    engine = Engine(A, DONE)
    before = asyncio.all_tasks()
    events = coalesced(engine.answer())
    await turns_of_the_loop()
    assert (asyncio.all_tasks(), engine.yielded) == (before, 0)
    await events.aclose()
