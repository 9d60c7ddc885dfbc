"""Requests with a `request_id`, as `core.once` knows them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.core.once import Claim
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kotaemon_grpc.core.caller import Caller

Named: TypeAlias = (
    pb.AskQuestionRequest
    | pb.StreamAnswerRequest
    | pb.ChatMessage
    | pb.CreateConversationRequest
    | pb.DeleteConversationRequest
    | pb.CreateDocumentRequest
    | pb.ImportDocumentHeader
    | pb.DeleteDocumentRequest
)
"""What may have a `request_id`."""


def claim_of(
    request: Named, caller: Caller, *said_before: Message, field: str = "request_id"
) -> Claim | None:
    """Return the claim of a request whose fields were checked; None if it has no id.

    Two requests are the same if their messages are of the same type and have the same
    bytes. Of content that is hashed apart, see `Claim.with_content`, nothing is in it.

    Args:
        request: the message that has the id.
        caller: who sends it.
        said_before: what it means depends on these, too.
        field: what the client has to call the id.
    """
    if not request.request_id:
        return None
    digest = hashlib.sha256(request.DESCRIPTOR.full_name.encode())
    for message in (_without_content(request), *said_before):
        # Written anew in one order, whatever that of the client's library was.
        content = message.SerializeToString(deterministic=True)
        digest.update(len(content).to_bytes(8))
        digest.update(content)
    return Claim(caller.tenant, caller.principal, request.request_id, digest.digest(), field)


def _without_content(request: Named) -> Message:
    if not isinstance(request, pb.CreateDocumentRequest):
        return request
    return pb.CreateDocumentRequest(
        parent=request.parent,
        document_id=request.document_id,
        document=request.document,
        request_id=request.request_id,
    )
