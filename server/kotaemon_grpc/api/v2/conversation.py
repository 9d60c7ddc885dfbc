"""kotaemon.v2.ConversationService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.claims import claim_of
from kotaemon_grpc.api.v2.to_pb import conversation_to_pb, turn_to_pb
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.limits import MAX_CONVERSATION_TITLE_CHARS, MAX_TURNS_PAGE_SIZE
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.converse import Conversing

SERVICE = pb.DESCRIPTOR.services_by_name["ConversationService"]


class ConversationService:
    """Implements `kotaemon.v2.ConversationService`."""

    def __init__(self, conversing: Conversing) -> None:
        """Take the use case."""
        self._conversing = conversing

    async def create_conversation(
        self, request: pb.CreateConversationRequest, context: Context
    ) -> pb.CreateConversationResponse:
        """Create an empty conversation."""
        checks = Checks()
        conversation = checks.optional_id("conversation_id", request.conversation_id)
        title = checks.text(
            "conversation.title", request.conversation.title, MAX_CONVERSATION_TITLE_CHARS
        )
        checks.request_id("request_id", request.request_id)
        checks.done()
        claim = claim_of(request, context.caller)
        created = await self._conversing.create(context.caller, conversation, title, claim)
        return pb.CreateConversationResponse(conversation=conversation_to_pb(created))

    async def get_conversation(
        self, request: pb.GetConversationRequest, context: Context
    ) -> pb.GetConversationResponse:
        """Get a conversation."""
        checks = Checks()
        (conversation,) = checks.name("name", request.name, "conversations")
        checks.done()
        found = await self._conversing.get(context.caller, conversation)
        return pb.GetConversationResponse(conversation=conversation_to_pb(found))

    async def list_conversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """List conversations, newest first."""
        checks = Checks()
        limit = checks.page_size("page_size", request.page_size)
        checks.done()
        page = await self._conversing.list(context.caller, token=request.page_token, limit=limit)
        return pb.ListConversationsResponse(
            conversations=[conversation_to_pb(item) for item in page.items],
            next_page_token=page.next_key,
        )

    async def list_turns(
        self, request: pb.ListTurnsRequest, context: Context
    ) -> pb.ListTurnsResponse:
        """List the turns of a conversation, oldest first."""
        checks = Checks()
        (conversation,) = checks.name("parent", request.parent, "conversations")
        limit = checks.page_size("page_size", request.page_size, most=MAX_TURNS_PAGE_SIZE)
        checks.done()
        page = await self._conversing.turns(
            context.caller, conversation, token=request.page_token, limit=limit
        )
        return pb.ListTurnsResponse(
            turns=[turn_to_pb(conversation, turn) for turn in page.items],
            next_page_token=page.next_key,
        )

    async def delete_conversation(
        self, request: pb.DeleteConversationRequest, context: Context
    ) -> pb.DeleteConversationResponse:
        """Delete a conversation and its turns."""
        checks = Checks()
        (conversation,) = checks.name("name", request.name, "conversations")
        checks.request_id("request_id", request.request_id)
        checks.done()
        claim = claim_of(request, context.caller)
        await self._conversing.delete(context.caller, conversation, claim)
        return pb.DeleteConversationResponse()
