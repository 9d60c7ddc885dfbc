"""Engines and retrievers whose work is measured."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from kotaemon_grpc.core.model import AnswerCompleted, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent, Query, Question, Retrieval, Scope, Usage
    from kotaemon_grpc.core.ports import AnswerEngine, Retriever


class AnswerObserver(Protocol):
    """What is told of the work of one engine. Its methods must not block or raise."""

    def observe_first_token(self, seconds: float, /) -> None:
        """Take the time from a question to the first piece of its answer."""
        ...

    def observe_answer(self, seconds: float, /) -> None:
        """Take the time from a question to the end of its answer, however it ended."""
        ...

    def count_tokens(self, read: int, written: int, /) -> None:
        """Take what a model read for an answer, and wrote."""
        ...


class MeasuredEngine:
    """Measures an engine: an adapter of `core.ports.AnswerEngine`."""

    def __init__(
        self,
        engine: AnswerEngine,
        metrics: AnswerObserver,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the engine, what is told, and what counts seconds."""
        self._engine = engine
        self._metrics = metrics
        self._clock = clock

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question. An answer that fails or is given up has its time told too."""
        started_s = self._clock()
        has_text = False
        try:
            async with aclosing(self._engine.answer(question, history, context)) as events:
                async for event in events:
                    if isinstance(event, TextDelta) and not has_text:
                        has_text = True
                        self._metrics.observe_first_token(self._clock() - started_s)
                    elif isinstance(event, AnswerCompleted):
                        self._count(event.answer.usage)
                    yield event
        finally:
            self._metrics.observe_answer(self._clock() - started_s)

    def _count(self, usage: Usage) -> None:
        self._metrics.count_tokens(usage.input_tokens or 0, usage.output_tokens or 0)


class MeasuredRetriever:
    """Measures a retriever: an adapter of `core.ports.Retriever`."""

    def __init__(
        self,
        retriever: Retriever,
        observe_retrieval: Callable[[float], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the retriever, what is told of each search's seconds, and what counts them."""
        self._retriever = retriever
        self._observe_retrieval = observe_retrieval
        self._clock = clock

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        """Find passages. A search that fails or is given up has its time told too."""
        started_s = self._clock()
        try:
            return await self._retriever.retrieve(scope, query, context)
        finally:
            self._observe_retrieval(self._clock() - started_s)
