"""Create, read and delete kept conversations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kotaemon_grpc.core.conversation import Conversation
from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.core.once import Deleted
from kotaemon_grpc.core.paging import Page
from kotaemon_grpc.core.required import require_conversation

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.once import Claim, Once
    from kotaemon_grpc.core.paging import PageTokens
    from kotaemon_grpc.core.ports import ConversationStore


class Conversing:
    """The use case. Keys of the pages it takes and gives are page tokens."""

    def __init__(
        self,
        *,
        conversations: ConversationStore,
        once: Once,
        tokens: PageTokens,
        new_id: Callable[[], str],
    ) -> None:
        """Take the store, what does a request once, and what makes tokens and ids."""
        self._conversations = conversations
        self._once = once
        self._tokens = tokens
        self._new_id = new_id

    async def create(
        self, caller: Caller, conversation: str, title: str, claim: Claim | None = None
    ) -> Conversation:
        """Create an empty conversation; an empty id is chosen.

        Raises:
            AlreadyExists: the id is taken.
            RequestIdReused: the claim's id was used for another request.
        """
        conversation = conversation or self._new_id()
        return await self._once.run(
            claim,
            Conversation,
            lambda: self._conversations.create(caller.tenant, conversation, title, claim=claim),
        )

    async def get(self, caller: Caller, conversation: str) -> Conversation:
        """Get a conversation, without its turns.

        Raises:
            NotFound: there is none.
        """
        return _shown(
            caller, await require_conversation(self._conversations, caller.tenant, conversation)
        )

    async def list(self, caller: Caller, *, token: str, limit: int) -> Page[Conversation]:
        """List conversations, newest first."""
        bound_to = (caller.tenant, "conversations")
        page = await self._conversations.list(
            caller.tenant, after=self._tokens.decode(token, *bound_to), limit=limit
        )
        items = tuple(_shown(caller, each) for each in page.items)
        return Page(items, self._tokens.encode(page.next_key, *bound_to))

    async def turns(
        self, caller: Caller, conversation: str, *, token: str, limit: int
    ) -> Page[Turn]:
        """List the turns of a conversation, oldest first.

        Those about collections that the caller may not see are left out. A page that
        loses turns this way is not filled up (AIP-158 lets any page be short), so
        that its cost does not grow with what is hidden.

        Raises:
            NotFound: there is no such conversation.
        """
        bound_to = (caller.tenant, "conversations", conversation)
        after = int(self._tokens.decode(token, *bound_to) or 0)
        await self.get(caller, conversation)
        # One more than asked for tells whether there is another page.
        turns = await self._conversations.turns(
            caller.tenant, conversation, after=after, limit=limit + 1
        )
        next_key = str(turns[limit - 1].number) if len(turns) > limit else ""
        items = tuple(turn for turn in turns[:limit] if caller.may_see(turn.collection))
        return Page(items, self._tokens.encode(next_key, *bound_to))

    async def delete(self, caller: Caller, conversation: str, claim: Claim | None = None) -> None:
        """Delete a conversation and its turns.

        Raises:
            NotFound: there is none.
            RequestIdReused: the claim's id was used for another request.
        """

        async def work() -> Deleted:
            if not await self._conversations.delete(caller.tenant, conversation, claim=claim):
                raise NotFound(ResourceType.CONVERSATION, conversation_name(conversation))
            return Deleted()

        await self._once.run(claim, Deleted, work)


def _shown(caller: Caller, conversation: Conversation) -> Conversation:
    """Hide a title that may be a question about a collection that the caller may not see."""
    if not conversation.collection or caller.may_see(conversation.collection):
        return conversation
    return replace(conversation, title="")
