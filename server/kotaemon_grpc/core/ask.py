"""Ask a question, alone or as a turn of a dialogue."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kotaemon_grpc.core.coalesce import coalesced
from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.model import AnswerCompleted
from kotaemon_grpc.core.required import require_collection, require_conversation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import datetime

    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.model import Answer, AnswerEvent, Question
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
        history_turns: int,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Take the parts."""
        self._engine = engine
        self._documents = documents
        self._conversations = conversations
        self._history_turns = history_turns
        self._clock = clock
        self._new_id = new_id
        self._on_answer = on_answer

    async def open(self, context: Context, conversation: str = "") -> Dialogue:
        """Open a dialogue.

        Args:
            context: whose tenant the dialogue belongs to, and how long it may take.
            conversation: the id of a kept one; `NEW_CONVERSATION` to start one with
                the first turn; empty for one that is forgotten.

        Raises:
            NotFound: there is no such conversation.
        """
        memory: _Memory
        if not conversation:
            memory = _Forgotten(self._history_turns)
        else:
            kept = _Kept(self._conversations, context.caller, self._history_turns, self._new_id)
            if conversation != NEW_CONVERSATION:
                await kept.continue_(conversation)
            memory = kept
        return Dialogue(
            engine=self._engine,
            documents=self._documents,
            memory=memory,
            context=context,
            clock=self._clock,
            on_answer=self._on_answer,
        )


class Dialogue:
    """Questions one after the other; the earlier are the history of the later."""

    def __init__(
        self,
        *,
        engine: AnswerEngine,
        documents: DocumentStore,
        memory: _Memory,
        context: Context,
        clock: Callable[[], datetime],
        on_answer: Callable[[Answer], None],
    ) -> None:
        """Take the parts; `Asking.open` makes dialogues."""
        self._engine = engine
        self._documents = documents
        self._memory = memory
        self._context = context
        self._clock = clock
        self._on_answer = on_answer

    @property
    def conversation(self) -> str:
        """The id of the conversation that keeps the turns; empty if none does (yet)."""
        return self._memory.conversation

    def ask(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question as it is written; the turn is kept before the last event.

        Pieces of text that were not taken yet come as one.

        Raises:
            NotFound: there is no such collection, or the conversation is gone.
        """
        return self._answered(question, coalesced)

    async def answer(self, question: Question) -> Answer:
        """Answer a question, whole."""
        # No event is waited for here but the last: there is nothing to gain by merging.
        async with aclosing(self._answered(question, lambda events: events)) as events:
            async for event in events:
                if isinstance(event, AnswerCompleted):
                    return event.answer
        raise AssertionError("ask ends in a completed answer or raises")

    async def _answered(
        self, question: Question, delivered: Callable[[_Events], _Events]
    ) -> _Events:
        await require_collection(self._documents, question.scope)
        history = await self._memory.history()
        written = self._engine.answer(question, history, self._context)
        async with aclosing(delivered(written)) as events:
            async for event in events:
                if isinstance(event, AnswerCompleted):
                    await self._memory.add(self._turn(question, event.answer))
                    self._on_answer(event.answer)
                    yield replace(event, conversation=self.conversation)
                    return
                yield event
        raise RuntimeError("the engine ended without completing its answer")

    def _turn(self, question: Question, answer: Answer) -> Turn:
        return Turn(0, question.scope.collection, question.text, answer, self._clock())


class _Memory(Protocol):
    """What a dialogue remembers."""

    conversation: str

    async def history(self) -> Sequence[Turn]: ...

    async def add(self, turn: Turn) -> None: ...


class _Forgotten:
    """Remembers for as long as the dialogue lasts."""

    def __init__(self, turns: int) -> None:
        self.conversation = ""
        self._turns: deque[Turn] = deque(maxlen=turns)

    async def history(self) -> Sequence[Turn]:
        return tuple(self._turns)

    async def add(self, turn: Turn) -> None:
        self._turns.append(turn)


class _Kept:
    """Remembers in a store, where other dialogues may add turns meanwhile."""

    def __init__(
        self, store: ConversationStore, caller: Caller, turns: int, new_id: Callable[[], str]
    ) -> None:
        self.conversation = ""
        self._store = store
        self._caller = caller
        self._turns = turns
        self._new_id = new_id

    async def continue_(self, conversation: str) -> None:
        kept = await require_conversation(self._store, self._caller.tenant, conversation)
        self.conversation = kept.id

    async def history(self) -> Sequence[Turn]:
        if not self.conversation or not self._turns:
            return ()
        latest = await self._store.latest_turns(self._caller.tenant, self.conversation, self._turns)
        # Others of the tenant may have asked what this caller may not see.
        return tuple(turn for turn in latest if self._caller.may_see(turn.collection))

    async def add(self, turn: Turn) -> None:
        # Created with its first turn, so that a question that fails leaves nothing behind.
        conversation = self.conversation or self._new_id()
        await self._store.append(
            self._caller.tenant, conversation, turn, create=not self.conversation
        )
        self.conversation = conversation
