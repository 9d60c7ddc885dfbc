"""The dialogues that the server keeps."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from kotaemon_grpc.client import values
from kotaemon_grpc.client.attempts import Method
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kotaemon_grpc.client.calls import Calls

_CREATE = Method("ConversationService/CreateConversation", pb.CreateConversationResponse)
_GET = Method("ConversationService/GetConversation", pb.GetConversationResponse)
_LIST = Method("ConversationService/ListConversations", pb.ListConversationsResponse)
_LIST_TURNS = Method("ConversationService/ListTurns", pb.ListTurnsResponse)
_DELETE = Method("ConversationService/DeleteConversation", pb.DeleteConversationResponse)


class Conversations:
    """The methods of a client that look after conversations.

    `request_id` and `timeout_s` are those of `ask`; each page of a list has a deadline
    of its own.
    """

    _calls: Calls

    async def create_conversation(
        self,
        *,
        title: str = "",
        conversation_id: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> values.Conversation:
        """Create an empty conversation.

        Args:
            title: at most 256 characters; empty for the start of the first question.
            conversation_id: its id; empty for one that the server chooses.
            request_id: as of `ask`.
            timeout_s: as of `ask`.

        Raises:
            AlreadyExistsError: the id is taken.
            CallError: it failed otherwise.
        """
        request = pb.CreateConversationRequest(
            conversation=pb.Conversation(title=title),
            conversation_id=conversation_id,
            request_id=request_id,
        )
        response = await self._calls.unary(_CREATE, request, timeout_s)
        return values.conversation_from_pb(response.conversation)

    async def get_conversation(
        self, name: str, *, timeout_s: float | None = None
    ) -> values.Conversation:
        """Get a conversation by its resource name.

        Raises:
            CallError: it failed.
        """
        request = pb.GetConversationRequest(name=name)
        response = await self._calls.unary(_GET, request, timeout_s)
        return values.conversation_from_pb(response.conversation)

    async def list_conversations(
        self, *, timeout_s: float | None = None
    ) -> AsyncGenerator[values.Conversation, None]:
        """List the conversations of the caller's tenant, newest first, page after page.

        Raises:
            CallError: it failed.
        """
        request = pb.ListConversationsRequest()
        async with aclosing(self._calls.pages(_LIST, request, timeout_s)) as pages:
            async for page in pages:
                for conversation in page.conversations:
                    yield values.conversation_from_pb(conversation)

    async def list_turns(
        self, conversation: str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[values.Turn, None]:
        """List the turns of a conversation, oldest first, page after page.

        Raises:
            CallError: it failed.
        """
        request = pb.ListTurnsRequest(parent=conversation)
        async with aclosing(self._calls.pages(_LIST_TURNS, request, timeout_s)) as pages:
            async for page in pages:
                for turn in page.turns:
                    yield values.turn_from_pb(turn, conversation)

    async def delete_conversation(
        self, name: str, *, request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a conversation and its turns by its resource name, for good.

        Raises:
            CallError: it failed.
        """
        request = pb.DeleteConversationRequest(name=name, request_id=request_id)
        await self._calls.unary(_DELETE, request, timeout_s)
