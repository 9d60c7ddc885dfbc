"""What has to exist for a use case to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.core.names import collection_name, conversation_name

if TYPE_CHECKING:
    from kotaemon_grpc.core.conversation import Conversation
    from kotaemon_grpc.core.model import Scope
    from kotaemon_grpc.core.ports import ConversationStore, DocumentStore


async def require_collection(documents: DocumentStore, scope: Scope) -> None:
    """Go on if there is such a collection.

    Raises:
        NotFound: there is none.
    """
    if not await documents.collection_exists(scope):
        raise NotFound(ResourceType.COLLECTION, collection_name(scope.collection))


async def require_conversation(
    conversations: ConversationStore, tenant: str, conversation: str
) -> Conversation:
    """Return a conversation, without its turns.

    Raises:
        NotFound: there is none.
    """
    found = await conversations.get(tenant, conversation)
    if found is None:
        raise NotFound(ResourceType.CONVERSATION, conversation_name(conversation))
    return found
