from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    Citation,
    CitationAdded,
    DocumentRef,
    FinishReason,
    Hit,
    Location,
    Passage,
    Query,
    Question,
    Retrieval,
    Scope,
    TextDelta,
    Usage,
)
from kotaemon_grpc.engines.traced import TracedEngine, TracedRetriever
from kotaemon_grpc.telemetry.spans import outgoing_headers
from kotaemon_grpc.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent

PLANTED = "heir-of-the-mill"
SCOPE = Scope("tenant-of-one", "handbook")
QUESTION = Question(f"Who is the {PLANTED}?", SCOPE, context={"key": PLANTED})
CONTEXT = Context(Caller("dns:caller.example"))
DOCUMENT = DocumentRef("will", SCOPE, PLANTED, f"file:{PLANTED}")
PASSAGE = Passage(f"The {PLANTED} is Ann.", Location((PLANTED,), 0, 20))
ANSWER = Answer(
    f"Ann is the {PLANTED}.",
    (Citation(DOCUMENT, PASSAGE.location, PASSAGE.text, 1.0, ()),),
    FinishReason.ANSWERED,
    Usage(input_tokens=120, output_tokens=7, passages=3),
)


class FakeRetriever:
    """Finds one passage in one scope, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        assert (scope, query.text != "", context) == (SCOPE, True, CONTEXT)
        if self._error is not None:
            raise self._error
        return Retrieval((Hit(DOCUMENT, PASSAGE, 1.0),), {PLANTED: 1.0})


@dataclass
class FakeEngine:
    """Retrieves, then yields what it was given; an exception among it is raised."""

    events: Sequence[AnswerEvent | BaseException | asyncio.Event]
    retriever: TracedRetriever = field(default_factory=lambda: TracedRetriever(FakeRetriever()))
    headers: dict[str, str] = field(default_factory=dict)
    closed: bool = False

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        assert (question, history, context) == (QUESTION, (), CONTEXT)
        try:
            self.headers = outgoing_headers()
            await self.retriever.retrieve(question.scope, Query(question.text, limit=5), context)
            for event in self.events:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, asyncio.Event):
                    event.set()
                    await asyncio.Event().wait()
                else:
                    yield event
        finally:
            self.closed = True


WHOLE = (
    TextDelta("Ann is "),
    TextDelta(f"the {PLANTED}."),
    CitationAdded(ANSWER.citations[0]),
    AnswerCompleted(ANSWER),
)


async def test_an_answer_has_a_span_above_that_of_its_retrieval(traces: Any) -> None:
    _, call = traces.tracing().start_call("service/Method", {}, {})
    inner = FakeEngine(WHOLE)

    events = [event async for event in TracedEngine(inner, "local").answer(QUESTION, (), CONTEXT)]
    call.end()

    assert events == list(WHOLE)
    retrieval, answer, server = await traces.spans()
    assert {span.trace_id for span in (retrieval, answer, server)} == {call.context.trace_id}
    assert answer.parent_id == server.span_id
    assert retrieval.parent_id == answer.span_id
    assert answer.span_id in inner.headers["traceparent"]
    assert answer.name == "invoke_agent local"
    assert answer.message.kind == retrieval.message.kind == 1
    attributes = answer.attributes
    del attributes["gen_ai.response.time_to_first_chunk"]
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "local",
        "gen_ai.agent.name": "local",
        "gen_ai.response.finish_reasons": ["answered"],
        "gen_ai.usage.input_tokens": 120,
        "gen_ai.usage.output_tokens": 7,
        "kotaemon.usage.passages": 3,
    }
    assert retrieval.name == "retrieval handbook"
    assert retrieval.attributes == {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "handbook",
        "gen_ai.request.top_k": 5.0,
        "kotaemon.retrieval.hits": 1,
    }
    assert not any(span.has_status for span in (retrieval, answer, server))


async def test_the_first_token_is_timed_from_the_start_of_the_answer(traces: Any) -> None:
    # Each look at the clock takes a quarter of a second: at the start of the call, of the
    # answer and of the retrieval, at the retrieval's end, and at the first token.
    clock = count(0, 250_000_000)
    tracing = Tracing(traces.exporter, sample_ratio=1.0, clock=clock.__next__)
    tracing.start_call("service/Method", {}, {})

    async for _ in TracedEngine(FakeEngine(WHOLE), "local").answer(QUESTION, (), CONTEXT):
        pass

    answer = (await traces.spans())[-1]
    assert answer.attributes["gen_ai.response.time_to_first_chunk"] == 0.75


async def test_no_text_of_a_question_an_answer_or_a_document_is_exported(traces: Any) -> None:
    _, call = traces.tracing().start_call("service/Method", {}, {"x-secret": PLANTED})
    failing = FakeEngine((TextDelta(PLANTED), ValueError(PLANTED)))

    for engine in (FakeEngine(WHOLE), failing):
        try:
            async for _ in TracedEngine(engine, "local").answer(QUESTION, (), CONTEXT):
                pass
        except ValueError:
            call.end_with(ValueError(PLANTED))

    assert len(await traces.spans()) == 5
    for request in traces.receiver.requests:
        assert PLANTED.encode() not in request.SerializeToString()


async def test_counts_that_are_not_known_are_left_out(traces: Any) -> None:
    traces.tracing().start_call("service/Method", {}, {})
    answer = Answer("Nothing was found.", (), FinishReason.NOTHING_FOUND)

    async for _ in TracedEngine(FakeEngine([AnswerCompleted(answer)]), "local").answer(
        QUESTION, (), CONTEXT
    ):
        pass

    span = (await traces.spans())[-1]
    assert span.attributes["gen_ai.response.finish_reasons"] == ["nothing_found"]
    assert not {name for name in span.attributes if "tokens" in name or "first_chunk" in name}


async def test_what_the_consumer_does_meanwhile_is_no_part_of_the_answer(traces: Any) -> None:
    _, call = traces.tracing().start_call("service/Method", {}, {})

    async for _ in TracedEngine(FakeEngine(WHOLE), "local").answer(QUESTION, (), CONTEXT):
        assert call.context.span_id in outgoing_headers()["traceparent"]

    assert call.context.span_id in outgoing_headers()["traceparent"]


async def test_the_answer_of_a_call_that_is_not_sampled_is_the_engines_own(traces: Any) -> None:
    traces.tracing(sample_ratio=0.0).start_call("service/Method", {}, {})
    inner = FakeEngine(WHOLE)

    async with aclosing(TracedEngine(inner, "local").answer(QUESTION, (), CONTEXT)) as events:
        assert events.ag_code is FakeEngine.answer.__code__
        assert [event async for event in events] == list(WHOLE)

    assert await traces.spans() == []


async def test_an_answer_that_fails_is_an_error_by_its_type(traces: Any) -> None:
    traces.tracing().start_call("service/Method", {}, {})

    with pytest.raises(ValueError, match="words"):
        async for _ in TracedEngine(FakeEngine([ValueError("words")]), "local").answer(
            QUESTION, (), CONTEXT
        ):
            pass

    span = (await traces.spans())[-1]
    assert span.is_error
    assert span.attributes["error.type"] == "builtins.ValueError"
    assert span.events == [("exception", {"exception.type": "builtins.ValueError"})]


@pytest.mark.parametrize(("taken", "cancelled"), [(1, True), (len(WHOLE), False)])
async def test_an_answer_that_is_closed_early_is_marked_and_its_engine_stops(
    traces: Any,
    taken: int,
    cancelled: bool,  # noqa: FBT001 - a table
) -> None:
    traces.tracing().start_call("service/Method", {}, {})
    inner = FakeEngine(WHOLE)

    async with aclosing(TracedEngine(inner, "local").answer(QUESTION, (), CONTEXT)) as events:
        for _ in range(taken):
            await anext(events)
        assert not inner.closed

    assert inner.closed
    span = (await traces.spans())[-1]
    assert span.attributes.get("kotaemon.cancelled", False) is cancelled
    assert not span.has_status


async def test_an_answer_that_is_cancelled_is_marked_and_its_engine_stops(traces: Any) -> None:
    reached = asyncio.Event()
    inner = FakeEngine([TextDelta("Ann"), reached])

    async def consume() -> None:
        traces.tracing().start_call("service/Method", {}, {})
        async for _ in TracedEngine(inner, "local").answer(QUESTION, (), CONTEXT):
            pass

    task = asyncio.create_task(consume())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert inner.closed
    span = (await traces.spans())[-1]
    assert span.attributes["kotaemon.cancelled"] is True
    assert "error.type" not in span.attributes
    assert not span.has_status


async def test_a_retrieval_that_fails_is_an_error_by_its_type(traces: Any) -> None:
    traces.tracing().start_call("service/Method", {}, {})

    with pytest.raises(ValueError, match=PLANTED):
        await TracedRetriever(FakeRetriever(ValueError(PLANTED))).retrieve(
            SCOPE, Query("who"), CONTEXT
        )

    [span] = await traces.spans()
    assert span.is_error
    assert span.attributes["error.type"] == "builtins.ValueError"
    assert "kotaemon.retrieval.hits" not in span.attributes


async def test_retrieval_outside_of_a_sampled_call_is_just_retrieval() -> None:
    retrieval = await TracedRetriever(FakeRetriever()).retrieve(SCOPE, Query("who"), CONTEXT)

    assert [hit.document for hit in retrieval.hits] == [DOCUMENT]
