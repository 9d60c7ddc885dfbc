"""Engines and retrievers that work on so many calls at once, and refuse the rest."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import AnswerCompleted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent, Query, Question, Retrieval, Scope
    from kotaemon_grpc.core.ports import AnswerEngine, Retriever
    from kotaemon_grpc.engines.admission import Admission


class BoundedEngine:
    """Answers when there is a place: an adapter of `core.ports.AnswerEngine`."""

    def __init__(self, engine: AnswerEngine, admission: Admission) -> None:
        """Take the engine and its places."""
        self._engine = engine
        self._admission = admission

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question, holding a place from before the first event to the last.

        Raises:
            Overloaded: there is no place in time.
        """
        completed: AnswerCompleted | None = None
        async with (
            self._admission.admit(context.remaining_s()),
            aclosing(self._engine.answer(question, history, context)) as events,
        ):
            async for event in events:
                if isinstance(event, AnswerCompleted):
                    completed = event
                    break
                yield event
        # Without the place, as storing and sending the answer is not the engine's work.
        if completed:
            yield completed


class BoundedRetriever:
    """Searches when there is a place: an adapter of `core.ports.Retriever`."""

    def __init__(self, retriever: Retriever, admission: Admission) -> None:
        """Take the retriever and its places."""
        self._retriever = retriever
        self._admission = admission

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        """Find passages, holding a place.

        Raises:
            Overloaded: there is no place in time.
        """
        async with self._admission.admit(context.remaining_s()):
            return await self._retriever.retrieve(scope, query, context)
