"""Use cases with a fake engine and fake stores."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.ask import Asking
from kotaemon_grpc.core.conversation import Conversation, Turn
from kotaemon_grpc.core.errors import (
    AlreadyExists,
    NotFound,
    RequestIdReused,
    ResourceType,
    StorageFull,
)
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta
from kotaemon_grpc.core.once import AlreadyDone, Answered, Once

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.errors import AgentError
    from kotaemon_grpc.core.model import AnswerEvent, Question, Scope
    from kotaemon_grpc.core.once import Claim, Outcome

NOW = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


class FakeEngine:
    """Says the question back, and remembers what it was given."""

    def __init__(self) -> None:
        self.histories: list[list[str]] = []
        self.contexts: list[Context] = []
        self.pieces: list[str] = []
        self.completes = True
        self.goes_on = False
        self.closed = 0
        self.has_closed = asyncio.Event()

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        self.histories.append([turn.question for turn in history])
        self.contexts.append(context)
        try:
            for piece in self.pieces or [question.text]:
                yield TextDelta(piece)
            if self.completes:
                yield AnswerCompleted(Answer(question.text, (), FinishReason.ANSWERED))
            if self.goes_on:
                yield TextDelta("more")
        finally:
            self.closed += 1
            self.has_closed.set()


class FakeDocuments:
    async def collection_exists(self, scope: Scope) -> bool:
        return scope.collection == "default"


class FakeRequests:
    """Remembers outcomes in memory."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str, str], tuple[Claim, Outcome]] = {}
        self.error: AgentError | None = None

    async def outcome(self, claim: Claim) -> Outcome | None:
        known, outcome = self.outcomes.get(claim.key, (claim, None))
        if known != claim:
            raise RequestIdReused(claim.field)
        return outcome

    async def remember(self, claim: Claim, outcome: Outcome) -> None:
        if self.error is not None:
            raise self.error
        self.require_new(claim)
        self.outcomes[claim.key] = claim, outcome

    def require_new(self, claim: Claim | None) -> None:
        if claim is not None and claim.key in self.outcomes:
            raise AlreadyDone


class FakeConversations:
    """Keeps turns in memory."""

    def __init__(self, requests: FakeRequests) -> None:
        self.requests = requests
        self.turns: dict[tuple[str, str], list[Turn]] = {}
        self.full = False

    async def create(self, tenant: str, conversation_id: str, title: str) -> Conversation:
        if (tenant, conversation_id) in self.turns:
            raise AlreadyExists(ResourceType.CONVERSATION, conversation_id)
        self.turns[tenant, conversation_id] = []
        return Conversation(conversation_id, title, 0, NOW, NOW)

    async def get(self, tenant: str, conversation_id: str) -> Conversation | None:
        turns = self.turns.get((tenant, conversation_id))
        return None if turns is None else Conversation(conversation_id, "", len(turns), NOW, NOW)

    async def append(
        self,
        tenant: str,
        conversation_id: str,
        turn: Turn,
        *,
        create: bool = False,
        claim: Claim | None = None,
    ) -> Turn:
        if self.full:
            raise StorageFull
        self.requests.require_new(claim)
        if create:
            await self.create(tenant, conversation_id, "")
        if (tenant, conversation_id) not in self.turns:
            raise NotFound(ResourceType.CONVERSATION, conversation_id)
        self.turns[tenant, conversation_id].append(turn)
        if claim is not None:
            self.requests.outcomes[claim.key] = claim, Answered(turn.answer, conversation_id)
        return turn

    async def latest_turns(self, tenant: str, conversation_id: str, limit: int) -> Sequence[Turn]:
        return self.turns[tenant, conversation_id][-limit:]


class House:
    """The use case with its fakes."""

    def __init__(self, history_turns: int = 2) -> None:
        self.engine = FakeEngine()
        self.requests = FakeRequests()
        self.conversations = FakeConversations(self.requests)
        self.answers: list[Answer] = []
        self.asking = Asking(
            engine=self.engine,
            documents=FakeDocuments(),  # type: ignore[arg-type]
            conversations=self.conversations,  # type: ignore[arg-type]
            once=Once(self.requests),
            history_turns=history_turns,
            clock=lambda: NOW,
            new_id=lambda: f"new-{len(self.conversations.turns)}",
            on_answer=self.answers.append,
        )


@pytest.fixture
def requests() -> FakeRequests:
    return FakeRequests()


@pytest.fixture
def once(requests: FakeRequests) -> Once:
    return Once(requests)


@pytest.fixture
def new_house() -> type[House]:
    """Put the use case together with its fakes: `new_house(history_turns=2)`."""
    return House
