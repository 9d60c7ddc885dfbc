"""Errors of the domain to `google.rpc.Status`: the one place that makes one.

Whatever is not an `AgentError` becomes INTERNAL with the id of the request and
not a word of its own: its text may hold anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from kotaemon_grpc.core.errors import (
    AlreadyExists,
    ContentTooLarge,
    InvalidArgument,
    NotFound,
    ResourceType,
    StorageFull,
    StorageUnavailable,
)
from kotaemon_grpc.wire.reasons import DOMAIN, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

MAX_DETAILS_BYTES = 4096
"""Trailers are dropped at random from 8 KB on; this leaves room for the rest of them."""

_RETRY_DELAY_S = 1  # as often as the store itself tries again

_CODES_AND_REASONS = {
    InvalidArgument: (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD),
    ContentTooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.DOCUMENT_TOO_LARGE),
    StorageFull: (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.STORAGE_FULL),
    StorageUnavailable: (grpc.StatusCode.UNAVAILABLE, Reason.STORAGE_UNAVAILABLE),
}
_RESOURCE_REASONS = {
    (NotFound, ResourceType.COLLECTION): Reason.COLLECTION_NOT_FOUND,
    (NotFound, ResourceType.DOCUMENT): Reason.DOCUMENT_NOT_FOUND,
    (NotFound, ResourceType.CONVERSATION): Reason.CONVERSATION_NOT_FOUND,
    (AlreadyExists, ResourceType.DOCUMENT): Reason.DOCUMENT_ALREADY_EXISTS,
    (AlreadyExists, ResourceType.CONVERSATION): Reason.CONVERSATION_ALREADY_EXISTS,
}
_INTERNAL = (grpc.StatusCode.INTERNAL, Reason.INTERNAL)


def status_of(error: Exception, request_id: str) -> status_pb2.Status:
    """Return what the caller is told of an error.

    Details come in the order of their use to a program, and are cut from the end
    so that all of them fit `MAX_DETAILS_BYTES`.
    """
    code, reason = code_and_reason(error)
    message = "internal error" if reason is Reason.INTERNAL else _shortened(str(error))
    status = status_pb2.Status(code=code.value[0], message=message)
    room = MAX_DETAILS_BYTES - status.ByteSize()
    for detail in _details(error, reason, request_id):
        packed = any_pb2.Any()
        packed.Pack(detail)
        # A tag and a length of at most 3 bytes frame each detail.
        room -= packed.ByteSize() + 4
        if room < 0:
            break
        status.details.append(packed)
    return status


def code_and_reason(error: Exception) -> tuple[grpc.StatusCode, Reason]:
    """Return the canonical code and the reason of an error."""
    match error:
        case NotFound():
            return grpc.StatusCode.NOT_FOUND, _RESOURCE_REASONS[NotFound, error.kind]
        case AlreadyExists():
            return grpc.StatusCode.ALREADY_EXISTS, _RESOURCE_REASONS[AlreadyExists, error.kind]
        case _:
            return _CODES_AND_REASONS.get(type(error), _INTERNAL)


def _details(error: Exception, reason: Reason, request_id: str) -> Iterator[Message]:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)
    if isinstance(error, ContentTooLarge):
        info.metadata["max_bytes"] = str(error.max_bytes)
    yield info
    yield error_details_pb2.RequestInfo(request_id=request_id)
    match error:
        case InvalidArgument():
            yield _bad_request(error)
        case NotFound() | AlreadyExists():
            yield error_details_pb2.ResourceInfo(
                resource_type=error.kind.value,
                resource_name=_shortened(error.name),
                description=_shortened(str(error)),
            )
        case ContentTooLarge():
            violation = error_details_pb2.QuotaFailure.Violation(
                subject="document", description=str(error)
            )
            yield error_details_pb2.QuotaFailure(violations=[violation])
        case StorageUnavailable():
            yield error_details_pb2.RetryInfo(retry_delay=Duration(seconds=_RETRY_DELAY_S))
        case StorageFull():
            violation = error_details_pb2.QuotaFailure.Violation(
                subject="storage", description=str(error)
            )
            yield error_details_pb2.QuotaFailure(violations=[violation])


def _bad_request(error: InvalidArgument) -> error_details_pb2.BadRequest:
    """Name as many violations as half of the room takes; the first ones are named."""
    bad_request = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad_request.field_violations.add(
            field=_shortened(violation.field), description=_shortened(violation.description)
        )
        if bad_request.ByteSize() > MAX_DETAILS_BYTES // 2:
            del bad_request.field_violations[-1]
            break
    return bad_request


def _shortened(text: str) -> str:
    limit_chars = 256
    return text if len(text) <= limit_chars else text[: limit_chars - 1] + "…"
