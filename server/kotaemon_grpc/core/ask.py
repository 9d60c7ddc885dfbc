"""Ask a question, alone or as a turn of a dialogue."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.core.coalesce import coalesced
from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.memory import Forgotten, Kept
from kotaemon_grpc.core.model import AnswerCompleted, CitationAdded, TextDelta
from kotaemon_grpc.core.once import AlreadyDone, Answered
from kotaemon_grpc.core.required import require_collection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from datetime import datetime

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.memory import Memory
    from kotaemon_grpc.core.model import Answer, AnswerEvent, Question
    from kotaemon_grpc.core.once import Claim, Once
    from kotaemon_grpc.core.ports import AnswerEngine, ConversationStore, DocumentStore

_Events: TypeAlias = "AsyncGenerator[AnswerEvent, None]"

NEW_CONVERSATION = "-"
"""Stands for the id of a conversation that is still to be created."""


class Asking:
    """The use case: opens dialogues.

    Args:
        engine: writes the answers.
        documents: tells which collections exist.
        conversations: keeps the turns.
        once: answers a question that has a name once.
        history_turns: how many earlier turns the engine is given, at least 0.
        clock: the time, with its zone.
        new_id: makes the id of a new conversation.
        on_answer: is told of every answer that was completed.
    """

    def __init__(
        self,
        *,
        engine: AnswerEngine,
        documents: DocumentStore,
        conversations: ConversationStore,
        once: Once,
        history_turns: int,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Take the parts."""
        self.engine = engine
        self.documents = documents
        self.once = once
        self.clock = clock
        self.on_answer = on_answer
        self._conversations = conversations
        self._history_turns = history_turns
        self._new_id = new_id

    async def open(self, context: Context, conversation: str = "") -> Dialogue:
        """Open a dialogue.

        Args:
            context: whose tenant the dialogue belongs to, and how long it may take.
            conversation: the id of a kept one; `NEW_CONVERSATION` to start one with
                the first turn; empty for one that is forgotten.

        Raises:
            NotFound: there is no such conversation.
        """
        if not conversation:
            return Dialogue(self, Forgotten(self._history_turns, self.once), context)
        kept = Kept(self._conversations, context.caller, self._history_turns, self._new_id)
        if conversation != NEW_CONVERSATION:
            await kept.continue_(conversation)
        return Dialogue(self, kept, context)


class Dialogue:
    """Questions one after the other; the earlier are the history of the later."""

    # It stays as long as the stream of a client that says nothing.
    __slots__ = ("_asking", "_context", "_memory")

    def __init__(self, asking: Asking, memory: Memory, context: Context) -> None:
        """Take the parts; `Asking.open` makes dialogues."""
        self._asking = asking
        self._memory = memory
        self._context = context

    @property
    def conversation(self) -> str:
        """The id of the conversation that keeps the turns; empty if none does (yet)."""
        return self._memory.conversation

    def ask(
        self, question: Question, claim: Claim | None = None
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question as it is written; the turn is kept before the last event.

        Pieces of text that were not taken yet come as one. An answer that was given to the
        same claim before comes again, with its text in one piece. If another server gives
        its answer while this one writes, the last event has that answer: it counts.

        Raises:
            NotFound: there is no such collection, or the conversation is gone.
            RequestIdReused: the claim's id was used for another request.
        """
        return self._answered(question, claim, coalesced)

    async def answer(self, question: Question, claim: Claim | None = None) -> Answer:
        """Answer a question, whole."""
        # No event is waited for here but the last: there is nothing to gain by merging.
        async with aclosing(self._answered(question, claim, lambda events: events)) as events:
            async for event in events:
                if isinstance(event, AnswerCompleted):
                    return event.answer
        raise AssertionError("ask ends in a completed answer or raises")

    async def _answered(
        self, question: Question, claim: Claim | None, delivered: Callable[[_Events], _Events]
    ) -> _Events:
        asking, context = self._asking, self._context
        async with asking.once.held(claim, Answered) as first:
            if first is not None:
                self._memory.repeated(self._turn(question, first.answer), first)
                for again in _events_of(first):
                    yield again
                return
            await require_collection(asking.documents, question.scope)
            history = await self._memory.history()
            if claim is not None:
                context = replace(context, request_id=claim.request_id)
            written = asking.engine.answer(question, history, context)
            async with aclosing(delivered(written)) as events:
                async for event in events:
                    if isinstance(event, AnswerCompleted):
                        yield await self._completed(question, event, claim)
                        return
                    yield event
            raise RuntimeError("the engine ended without completing its answer")

    async def _completed(
        self, question: Question, event: AnswerCompleted, claim: Claim | None
    ) -> AnswerCompleted:
        """Keep the turn, and return what the dialogue tells of it."""
        try:
            await self._memory.add(self._turn(question, event.answer), claim)
        except AlreadyDone:
            if claim is None:
                raise
            first = await self._asking.once.first(claim, Answered)
            self._memory.repeated(self._turn(question, first.answer), first)
            return AnswerCompleted(first.answer, first.conversation)
        self._asking.on_answer(event.answer)
        return replace(event, conversation=self.conversation)

    def _turn(self, question: Question, answer: Answer) -> Turn:
        return Turn(0, question.scope.collection, question.text, answer, self._asking.clock())


def _events_of(first: Answered) -> Iterator[AnswerEvent]:
    answer = first.answer
    if answer.text:
        yield TextDelta(answer.text)
    for citation in answer.citations:
        yield CitationAdded(citation)
    yield AnswerCompleted(answer, first.conversation)
