"""What is told of an engine's work, and that the metrics of the server take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    FinishReason,
    Query,
    Question,
    Retrieval,
    Scope,
    TextDelta,
    Usage,
)
from kotaemon_grpc.engines.measured import MeasuredEngine, MeasuredRetriever
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent
    from kotaemon_grpc.engines.measured import AnswerObserver

CONTEXT = Context(Caller("someone", "acme"))
QUESTION = Question("why?", Scope("acme"))
LOCAL = {names.LABEL_ENGINE: "local"}


class BrokenError(Exception):
    """What a fake raises."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class FakeMetrics:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float] | tuple[str, int, int]] = []

    def observe_first_token(self, seconds: float) -> None:
        self.told.append(("first token", seconds))

    def observe_answer(self, seconds: float) -> None:
        self.told.append(("answer", seconds))

    def count_tokens(self, read: int, written: int) -> None:
        self.told.append(("tokens", read, written))


class Engine:
    """Takes two seconds for the first piece, three for the next, and four to complete."""

    def __init__(self, clock: Clock, usage: Usage | None = None, *, fails: bool = False) -> None:
        self.clock = clock
        self.usage = usage or Usage()
        self.fails = fails

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        assert (question, history, context) == (QUESTION, (), CONTEXT)
        self.clock.now_s += 2
        yield TextDelta("a")
        self.clock.now_s += 3
        yield TextDelta("b")
        self.clock.now_s += 4
        if self.fails:
            raise BrokenError
        yield AnswerCompleted(Answer("ab", (), FinishReason.ANSWERED, self.usage))


class Retriever:
    """Takes half a second to find nothing, or to fail."""

    def __init__(self, clock: Clock, *, fails: bool = False) -> None:
        self.clock = clock
        self.fails = fails

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        assert (scope, query, context) == (QUESTION.scope, Query("why?"), CONTEXT)
        self.clock.now_s += 0.5
        if self.fails:
            raise BrokenError
        return Retrieval((), {})


async def test_an_answer_has_its_times_and_tokens_told() -> None:
    clock, metrics = Clock(), FakeMetrics()
    engine = MeasuredEngine(Engine(clock, Usage(7, 11)), metrics, clock)
    events = [event async for event in engine.answer(QUESTION, (), CONTEXT)]
    assert events == [
        TextDelta("a"),
        TextDelta("b"),
        AnswerCompleted(Answer("ab", (), FinishReason.ANSWERED, Usage(7, 11))),
    ]
    assert metrics.told == [("first token", 2), ("tokens", 7, 11), ("answer", 9)]


async def test_tokens_that_are_not_known_are_none() -> None:
    clock, metrics = Clock(), FakeMetrics()
    engine = MeasuredEngine(Engine(clock), metrics, clock)
    async for _ in engine.answer(QUESTION, (), CONTEXT):
        pass
    assert ("tokens", 0, 0) in metrics.told


async def test_an_answer_that_fails_has_its_time_told() -> None:
    clock, metrics = Clock(), FakeMetrics()
    answering = MeasuredEngine(Engine(clock, fails=True), metrics, clock).answer(
        QUESTION, (), CONTEXT
    )
    assert [await anext(answering), await anext(answering)] == [TextDelta("a"), TextDelta("b")]
    with pytest.raises(BrokenError):
        await anext(answering)
    assert metrics.told == [("first token", 2), ("answer", 9)]


async def test_an_answer_that_is_given_up_has_its_time_told() -> None:
    clock, metrics = Clock(), FakeMetrics()
    answering = MeasuredEngine(Engine(clock), metrics, clock).answer(QUESTION, (), CONTEXT)
    await anext(answering)
    await answering.aclose()
    assert metrics.told == [("first token", 2), ("answer", 2)]


async def test_a_search_has_its_time_told() -> None:
    clock = Clock()
    told: list[float] = []
    retriever = MeasuredRetriever(Retriever(clock), told.append, clock)
    assert await retriever.retrieve(QUESTION.scope, Query("why?"), CONTEXT) == Retrieval((), {})
    failing = MeasuredRetriever(Retriever(clock, fails=True), told.append, clock)
    with pytest.raises(BrokenError):
        await failing.retrieve(QUESTION.scope, Query("why?"), CONTEXT)
    assert told == [0.5, 0.5]


async def test_the_metrics_of_the_server_take_it() -> None:
    clock, registry = Clock(), CollectorRegistry()
    metrics: AnswerObserver = Metrics(registry).for_engine("local")
    engine = MeasuredEngine(Engine(clock, Usage(7, 11)), metrics, clock)
    async for _ in engine.answer(QUESTION, (), CONTEXT):
        pass
    assert registry.get_sample_value(f"{names.FIRST_TOKEN_SECONDS}_sum", LOCAL) == 2
    assert registry.get_sample_value(f"{names.ENGINE_SECONDS}_sum", LOCAL) == 9
    read = LOCAL | {names.LABEL_DIRECTION: names.DIRECTION_INPUT}
    written = LOCAL | {names.LABEL_DIRECTION: names.DIRECTION_OUTPUT}
    assert registry.get_sample_value(f"{names.TOKENS}_total", read) == 7
    assert registry.get_sample_value(f"{names.TOKENS}_total", written) == 11
