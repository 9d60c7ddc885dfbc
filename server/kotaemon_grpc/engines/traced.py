"""Spans for what an answer is made of.

They follow OpenTelemetry's conventions for generative AI (version 1.41.1): an
engine is an agent that is invoked, with the usage and the finish reason of its
answer; retrieval has its own span. Both run in this process, which makes them
internal. The opt-in attributes that hold texts are left out on purpose.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import AnswerCompleted, TextDelta
from kotaemon_grpc.telemetry import attributes
from kotaemon_grpc.telemetry.spans import current_span, span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import Answer, AnswerEvent, Query, Question, Retrieval, Scope
    from kotaemon_grpc.core.ports import AnswerEngine, Retriever
    from kotaemon_grpc.telemetry.spans import Span, Value


class TracedEngine:
    """An `AnswerEngine` whose answers have spans; those of unsampled calls cost nothing."""

    def __init__(self, engine: AnswerEngine, name: str) -> None:
        """Take the engine and its name, as `local`."""
        self._engine = engine
        self._span_name = f"{attributes.INVOKE_AGENT} {name}"
        self._attributes = {
            attributes.GEN_AI_OPERATION_NAME: attributes.INVOKE_AGENT,
            attributes.GEN_AI_PROVIDER_NAME: name,
            attributes.GEN_AI_AGENT_NAME: name,
        }

    def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer as the engine does."""
        events = self._engine.answer(question, history, context)
        above = current_span()
        return events if above is None else self._traced(events, above)

    async def _traced(
        self, events: AsyncGenerator[AnswerEvent, None], above: Span
    ) -> AsyncGenerator[AnswerEvent, None]:
        span = above.child(self._span_name, self._attributes)
        completed = began = False
        try:
            async with aclosing(events):
                while True:
                    # Only while the engine works: what its consumer does is no part of it.
                    with span.current():
                        try:
                            event = await anext(events)
                        except StopAsyncIteration:
                            break
                    if isinstance(event, TextDelta) and not began:
                        began = True
                        span.set(attributes.GEN_AI_TIME_TO_FIRST_CHUNK, span.elapsed_s)
                    elif isinstance(event, AnswerCompleted):
                        completed = True
                        _note(span, event.answer)
                    yield event
        except BaseException as error:
            # A consumer that has the last event need not ask for more.
            span.end_with(None if completed and isinstance(error, GeneratorExit) else error)
            raise
        span.end()


class TracedRetriever:
    """A `Retriever` whose searches have spans."""

    def __init__(self, retriever: Retriever) -> None:
        """Take the retriever."""
        self._retriever = retriever

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        """Find what the retriever finds."""
        known: dict[str, Value] = {
            attributes.GEN_AI_OPERATION_NAME: attributes.RETRIEVAL,
            attributes.GEN_AI_DATA_SOURCE_ID: scope.collection,
            attributes.GEN_AI_REQUEST_TOP_K: float(query.limit),
        }
        with span(f"{attributes.RETRIEVAL} {scope.collection}", known) as retrieving:
            retrieval = await self._retriever.retrieve(scope, query, context)
            retrieving.set(attributes.HITS, len(retrieval.hits))
            return retrieval


def _note(span: Span, answer: Answer) -> None:
    span.set(attributes.GEN_AI_FINISH_REASONS, (answer.finish_reason.value,))
    span.set(attributes.PASSAGES, answer.usage.passages)
    if answer.usage.input_tokens is not None:
        span.set(attributes.GEN_AI_INPUT_TOKENS, answer.usage.input_tokens)
    if answer.usage.output_tokens is not None:
        span.set(attributes.GEN_AI_OUTPUT_TOKENS, answer.usage.output_tokens)
