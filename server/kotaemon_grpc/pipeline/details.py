"""The details of a status: messages for programs (AIP-193), within a limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as pb

from kotaemon_grpc.core.errors import (
    AlreadyExists,
    ContentTooLarge,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RateLimited,
    Refused,
    ResourceType,
    ShuttingDown,
    StorageFull,
    StorageUnavailable,
    TlsTooOld,
)
from kotaemon_grpc.wire.reasons import DOMAIN, Reason

if TYPE_CHECKING:
    from google.protobuf.message import Message

_MAX_TEXT_BYTES = 512
_MAX_RETRY_DELAY_S = 3600.0
_STORE_RETRY_DELAY_S = 1.0  # as often as the store itself tries again
_OTHER_SERVER_DELAY_S = 1.0  # another one may be there at once, and this one soon again
_MAX_FRAME_BYTES = 4  # the tag of a field and a length below 2 MiB


def details_within(
    room_bytes: int,
    reason: Reason,
    error: Exception,
    request_id: str,
    localized: pb.LocalizedMessage,
) -> list[any_pb2.Any]:
    """Make the details in the order of their use to a program, as many as there is room for.

    The order: ErrorInfo, RequestInfo, RetryInfo, the detail that fits the reason,
    LocalizedMessage. Field violations are cut first, from the last, to the room that the
    others leave; then whole details are dropped, from the last.
    """
    packed = [
        _packed(detail)
        for detail in (
            _error_info(reason, error),
            pb.RequestInfo(request_id=request_id),
            _retry_info(error),
            _fitting_detail(error),
            localized,
        )
        if detail is not None
    ]
    if isinstance(error, InvalidArgument):
        left_bytes = room_bytes - sum(map(_framed_bytes, packed))
        packed.insert(-1, _packed(_bad_request(error, left_bytes)))
    kept = []
    for detail in packed:
        room_bytes -= _framed_bytes(detail)
        if room_bytes < 0:
            break
        kept.append(detail)
    return kept


def retry_delay_ms(delay_s: float) -> int:
    """Return a delay in whole milliseconds, from 1 to an hour; pushback of 0 would not wait."""
    return math.ceil(min(_MAX_RETRY_DELAY_S, max(0.001, delay_s)) * 1000)


def shortened(text: str, max_bytes: int = _MAX_TEXT_BYTES) -> str:
    """Cut a text to so many bytes of UTF-8, between characters."""
    # "replace", because what is no UTF-8 must not fail where failures are told.
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    mark = "…"
    return encoded[: max_bytes - len(mark.encode())].decode("utf-8", "ignore") + mark


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _framed_bytes(message: Message) -> int:
    return message.ByteSize() + _MAX_FRAME_BYTES


def _error_info(reason: Reason, error: Exception) -> pb.ErrorInfo:
    info = pb.ErrorInfo(reason=reason, domain=DOMAIN)
    match error:
        case ContentTooLarge():
            info.metadata["max_bytes"] = str(error.max_bytes)
        case PermissionDenied(action=action) if action:
            info.metadata["method"] = shortened(action)
    return info


def _retry_info(error: Exception) -> pb.RetryInfo | None:
    match error:
        case Refused():
            delay_ms = retry_delay_ms(error.retry_after_s)
        case StorageUnavailable():
            delay_ms = retry_delay_ms(_STORE_RETRY_DELAY_S)
        case ShuttingDown():
            delay_ms = retry_delay_ms(_OTHER_SERVER_DELAY_S)
        case _:
            return None
    delay = Duration()
    delay.FromMilliseconds(delay_ms)
    return pb.RetryInfo(retry_delay=delay)


def _fitting_detail(error: Exception) -> Message | None:
    """Make the one detail that the class of the error calls for, except BadRequest."""
    detail: Message | None = None
    match error:
        case NotFound() | AlreadyExists():
            detail = _resource_info(error.kind, error.name, error)
        case PermissionDenied(collection=collection) if collection:
            detail = _resource_info(ResourceType.COLLECTION, collection, error)
        case ContentTooLarge():
            detail = _quota_failure("document", error)
        case StorageFull():
            detail = _quota_failure("storage", error)
        case RateLimited():
            detail = _quota_failure("caller", error)
        case TlsTooOld():
            unmet = pb.PreconditionFailure.Violation(
                type="TLS_VERSION", subject="connection", description=shortened(str(error))
            )
            detail = pb.PreconditionFailure(violations=[unmet])
    return detail


def _resource_info(kind: ResourceType, name: str, error: Exception) -> pb.ResourceInfo:
    return pb.ResourceInfo(
        resource_type=kind.value,
        resource_name=shortened(name),
        description=shortened(str(error)),
    )


def _quota_failure(subject: str, error: Exception) -> pb.QuotaFailure:
    violation = pb.QuotaFailure.Violation(subject=subject, description=shortened(str(error)))
    return pb.QuotaFailure(violations=[violation])


def _bad_request(error: InvalidArgument, room_bytes: int) -> pb.BadRequest:
    """Name as many violations as there is room for; the first ones are named."""
    bad_request = pb.BadRequest()
    room_bytes -= _framed_bytes(_packed(bad_request))
    for violation in error.violations:
        named = pb.BadRequest.FieldViolation(
            field=shortened(violation.field), description=shortened(violation.description)
        )
        room_bytes -= _framed_bytes(named)
        if room_bytes < 0:
            break
        bad_request.field_violations.append(named)
    return bad_request
