"""What a dialogue remembers of its turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kotaemon_grpc.core.once import Answered
from kotaemon_grpc.core.required import require_conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.once import Claim, Once
    from kotaemon_grpc.core.ports import ConversationStore


class Memory(Protocol):
    """Of one dialogue; `conversation` is the id that keeps its turns, empty if none does (yet)."""

    conversation: str

    async def history(self) -> Sequence[Turn]:
        """Return the latest turns, oldest first."""
        ...

    async def add(self, turn: Turn, claim: Claim | None) -> None:
        """Add a turn, and record it as what came of a claim.

        Raises:
            AlreadyDone: the claim has an outcome.
        """
        ...

    def repeated(self, turn: Turn, first: Answered) -> None:
        """Take note of a turn that was answered before, in this dialogue or in another."""
        ...


class Forgotten:
    """Remembers for as long as the dialogue lasts."""

    # It stays as long as the stream of a client that says nothing.
    __slots__ = ("_most", "_once", "_turns", "conversation")

    def __init__(self, turns: int, once: Once) -> None:
        """Take how many turns it remembers, and what remembers outcomes."""
        self.conversation = ""
        self._most = turns
        self._once = once
        self._turns: tuple[Turn, ...] = ()

    async def history(self) -> Sequence[Turn]:
        """Return the latest turns, oldest first."""
        return self._turns

    async def add(self, turn: Turn, claim: Claim | None) -> None:
        """Add a turn, and record it as what came of a claim."""
        await self._once.remember(claim, Answered(turn.answer))
        self._add(turn)

    def repeated(self, turn: Turn, first: Answered) -> None:  # noqa: ARG002 - as the protocol has it
        """Take note of a turn that was answered before."""
        self._add(turn)

    def _add(self, turn: Turn) -> None:
        turns = (*self._turns, turn)
        self._turns = turns[max(0, len(turns) - self._most) :]


class Kept:
    """Remembers in a store, where other dialogues may add turns meanwhile."""

    __slots__ = ("_caller", "_new_id", "_store", "_turns", "conversation")

    def __init__(
        self, store: ConversationStore, caller: Caller, turns: int, new_id: Callable[[], str]
    ) -> None:
        """Begin without a conversation: it is created with its first turn."""
        self.conversation = ""
        self._store = store
        self._caller = caller
        self._turns = turns
        self._new_id = new_id

    async def continue_(self, conversation: str) -> None:
        """Go on with a conversation.

        Raises:
            NotFound: there is none.
        """
        kept = await require_conversation(self._store, self._caller.tenant, conversation)
        self.conversation = kept.id

    async def history(self) -> Sequence[Turn]:
        """Return the latest turns, oldest first."""
        if not self.conversation or not self._turns:
            return ()
        latest = await self._store.latest_turns(self._caller.tenant, self.conversation, self._turns)
        # Others of the tenant may have asked what this caller may not see.
        return tuple(turn for turn in latest if self._caller.may_see(turn.collection))

    async def add(self, turn: Turn, claim: Claim | None) -> None:
        """Add a turn, and record it as what came of a claim."""
        # Created with its first turn, so that a question that fails leaves nothing behind.
        conversation = self.conversation or self._new_id()
        await self._store.append(
            self._caller.tenant, conversation, turn, create=not self.conversation, claim=claim
        )
        self.conversation = conversation

    def repeated(self, turn: Turn, first: Answered) -> None:  # noqa: ARG002 - as the protocol has it
        """Go on where the turn is, if the dialogue has no conversation yet."""
        self.conversation = self.conversation or first.conversation
