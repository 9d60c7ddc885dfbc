"""Engines and retrievers with one place, and fakes that hold it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import Overloaded
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    FinishReason,
    Query,
    Question,
    Retrieval,
    Scope,
    TextDelta,
)
from kotaemon_grpc.engines.admission import Admission
from kotaemon_grpc.engines.bounded import BoundedEngine, BoundedRetriever

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent

CONTEXT = Context(Caller("someone", "acme"))
QUESTION = Question("why?", Scope("acme"))
QUERY = Query("why?")
DONE = AnswerCompleted(Answer("ab", (), FinishReason.ANSWERED))


class BrokenError(Exception):
    """What a fake raises."""


class Engine:
    """Yields two pieces and completes, or does what it is told to in between."""

    def __init__(self, between: Callable[[], None] | None = None) -> None:
        self.between = between
        self.asked: list[tuple[Question, Sequence[Turn], Context]] = []
        self.open = 0

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        self.asked.append((question, history, context))
        self.open += 1
        try:
            yield TextDelta("a")
            if self.between:
                self.between()
            yield TextDelta("b")
            yield DONE
        finally:
            self.open -= 1


class Retriever:
    """Finds nothing, once it may."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.asked: list[tuple[Scope, Query, Context]] = []

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        self.asked.append((scope, query, context))
        await self.may_go_on.wait()
        return Retrieval((), {"why": 1.0})


def one_place(max_waiting: int = 0) -> Admission:
    return Admission(
        1,
        max_waiting=max_waiting,
        max_wait_s=3600.0,  # beyond the time limit of a test
        clock=time.monotonic,
        on_shed=lambda _: None,
    )


async def test_the_engine_is_asked_as_the_caller_asked() -> None:
    engine = Engine()
    answering = BoundedEngine(engine, one_place()).answer(QUESTION, (), CONTEXT)
    assert [event async for event in answering] == [TextDelta("a"), TextDelta("b"), DONE]
    assert engine.asked == [(QUESTION, (), CONTEXT)]


async def test_a_place_is_held_until_the_answer_is_written_and_no_longer() -> None:
    engine, places = Engine(), one_place()
    answering = BoundedEngine(engine, places).answer(QUESTION, (), CONTEXT)
    assert places.in_flight == 0
    for event in (TextDelta("a"), TextDelta("b")):
        assert await anext(answering) == event
        assert (places.in_flight, engine.open) == (1, 1)
    assert await anext(answering) == DONE
    assert (places.in_flight, engine.open) == (0, 0)
    await answering.aclose()


async def test_without_a_place_the_engine_is_not_asked() -> None:
    engine, places = Engine(), one_place()
    bounded = BoundedEngine(engine, places)
    first = bounded.answer(QUESTION, (), CONTEXT)
    await anext(first)
    with pytest.raises(Overloaded):
        await anext(bounded.answer(QUESTION, (), CONTEXT))
    assert len(engine.asked) == 1
    await first.aclose()
    second = bounded.answer(QUESTION, (), CONTEXT)
    assert await anext(second) == TextDelta("a")
    await second.aclose()


async def test_whoever_has_no_time_left_does_not_wait() -> None:
    bounded = BoundedEngine(Engine(), one_place(max_waiting=1))
    first = bounded.answer(QUESTION, (), CONTEXT)
    await anext(first)
    with pytest.raises(Overloaded):
        await anext(bounded.answer(QUESTION, (), Context(CONTEXT.caller, deadline_s=0.0)))
    await first.aclose()


async def test_a_consumer_that_leaves_gives_the_place_back() -> None:
    engine, places = Engine(), one_place()
    answering = BoundedEngine(engine, places).answer(QUESTION, (), CONTEXT)
    await anext(answering)
    await answering.aclose()
    assert (places.in_flight, engine.open) == (0, 0)


@pytest.mark.parametrize("error", [BrokenError, asyncio.CancelledError])
async def test_an_engine_that_fails_gives_the_place_back(error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    engine, places = Engine(fail), one_place()
    answering = BoundedEngine(engine, places).answer(QUESTION, (), CONTEXT)
    await anext(answering)
    with pytest.raises(error):
        await anext(answering)
    assert (places.in_flight, engine.open) == (0, 0)


async def test_an_engine_that_does_not_complete_is_not_completed_for_it() -> None:
    class Unfinished(Engine):
        async def answer(
            self, question: Question, history: Sequence[Turn], context: Context
        ) -> AsyncGenerator[AnswerEvent, None]:
            del question, history, context
            yield TextDelta("a")

    places = one_place()
    answering = BoundedEngine(Unfinished(), places).answer(QUESTION, (), CONTEXT)
    assert [event async for event in answering] == [TextDelta("a")]
    assert places.in_flight == 0


async def test_a_search_holds_a_place() -> None:
    retriever, places = Retriever(), one_place()
    bounded = BoundedRetriever(retriever, places)
    first = asyncio.create_task(bounded.retrieve(QUESTION.scope, QUERY, CONTEXT))
    await asyncio.sleep(0)
    assert places.in_flight == 1
    with pytest.raises(Overloaded):
        await bounded.retrieve(QUESTION.scope, QUERY, CONTEXT)
    retriever.may_go_on.set()
    assert await first == Retrieval((), {"why": 1.0})
    assert (places.in_flight, retriever.asked) == (0, [(QUESTION.scope, QUERY, CONTEXT)])


async def test_a_search_that_has_no_time_left_does_not_wait() -> None:
    retriever = Retriever()
    bounded = BoundedRetriever(retriever, one_place(max_waiting=1))
    first = asyncio.create_task(bounded.retrieve(QUESTION.scope, QUERY, CONTEXT))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await bounded.retrieve(QUESTION.scope, QUERY, Context(CONTEXT.caller, deadline_s=0.0))
    retriever.may_go_on.set()
    await first


async def test_a_search_that_is_cancelled_gives_the_place_back() -> None:
    places = one_place()
    searching = asyncio.create_task(
        BoundedRetriever(Retriever(), places).retrieve(QUESTION.scope, QUERY, CONTEXT)
    )
    await asyncio.sleep(0)
    assert places.in_flight == 1
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    assert places.in_flight == 0
