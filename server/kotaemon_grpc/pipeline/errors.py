"""Errors of the domain to `google.rpc.Status`: the one place that makes one.

Whatever is not an `AgentError` becomes INTERNAL with the id of the request and
not a word of its own: its text may hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.rpc import status_pb2
from grpc import StatusCode

from kotaemon_grpc.core.errors import (
    AgentError,
    AlreadyExists,
    ContentTooLarge,
    CredentialProblem,
    CredentialsSourceUnavailable,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ReaderTooSlow,
    Refused,
    RequestIdReused,
    ResourceType,
    ShuttingDown,
    StorageFull,
    StorageUnavailable,
    StreamIdle,
    TlsTooOld,
    Unauthenticated,
)
from kotaemon_grpc.pipeline.details import details_within, retry_delay_ms, shortened
from kotaemon_grpc.pipeline.localized import localized_message
from kotaemon_grpc.wire.headers import REQUEST_ID, RETRY_PUSHBACK_MS, STATUS_DETAILS
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DETAILS_BYTES = 4096
"""The largest serialised status. Core loses trailers at random from 8 KB on, in base64 and all."""

MAX_MESSAGE_BYTES = 512
"""The longest message in UTF-8; `grpc-message` may need three bytes for each (percent-encoding)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What an error is to a program."""

    code: StatusCode
    reason: Reason


INTERNAL = Failure(StatusCode.INTERNAL, Reason.INTERNAL)

FAILURES: Mapping[tuple[type[Exception], object], Failure] = {
    (InvalidArgument, None): Failure(StatusCode.INVALID_ARGUMENT, Reason.INVALID_FIELD),
    (RequestIdReused, None): Failure(StatusCode.INVALID_ARGUMENT, Reason.REQUEST_ID_REUSED),
    **{
        (NotFound, kind): Failure(StatusCode.NOT_FOUND, Reason[f"{kind.name}_NOT_FOUND"])
        for kind in ResourceType
    },
    **{
        (AlreadyExists, kind): Failure(
            StatusCode.ALREADY_EXISTS, Reason[f"{kind.name}_ALREADY_EXISTS"]
        )
        for kind in (ResourceType.DOCUMENT, ResourceType.CONVERSATION)
    },
    (ContentTooLarge, None): Failure(StatusCode.RESOURCE_EXHAUSTED, Reason.DOCUMENT_TOO_LARGE),
    (StorageFull, None): Failure(StatusCode.RESOURCE_EXHAUSTED, Reason.STORAGE_FULL),
    (StorageUnavailable, None): Failure(StatusCode.UNAVAILABLE, Reason.STORAGE_UNAVAILABLE),
    **{
        (Unauthenticated, problem): Failure(
            StatusCode.UNAUTHENTICATED, Reason[f"CREDENTIALS_{problem.name}"]
        )
        for problem in CredentialProblem
    },
    (CredentialsSourceUnavailable, None): Failure(
        StatusCode.UNAVAILABLE, Reason.CREDENTIALS_SOURCE_UNAVAILABLE
    ),
    (TlsTooOld, None): Failure(StatusCode.FAILED_PRECONDITION, Reason.TLS_VERSION_TOO_OLD),
    (PermissionDenied, "method"): Failure(StatusCode.PERMISSION_DENIED, Reason.METHOD_NOT_ALLOWED),
    (PermissionDenied, "collection"): Failure(
        StatusCode.PERMISSION_DENIED, Reason.COLLECTION_NOT_ALLOWED
    ),
    (DeadlineExceeded, None): Failure(StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
    (StreamIdle, None): Failure(StatusCode.DEADLINE_EXCEEDED, Reason.STREAM_IDLE),
    (ReaderTooSlow, None): Failure(StatusCode.DEADLINE_EXCEEDED, Reason.READER_TOO_SLOW),
    (ShuttingDown, None): Failure(StatusCode.UNAVAILABLE, Reason.SHUTTING_DOWN),
    (Overloaded, None): Failure(StatusCode.UNAVAILABLE, Reason.OVERLOADED),
    (RateLimited, None): Failure(StatusCode.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED),
}
"""By the class of an error, and by what tells its reasons apart where it has several."""


def classify(error: Exception) -> Failure:
    """Return the canonical code and the reason of an error. Done once a call."""
    variant: object = None
    match error:
        case NotFound() | AlreadyExists():
            variant = error.kind
        case Unauthenticated():
            variant = error.problem
        case PermissionDenied():
            variant = "collection" if error.collection else "method"
    return FAILURES.get((type(error), variant), INTERNAL)


def status_of(
    failure: Failure, error: Exception, request_id: str, languages: str = ""
) -> status_pb2.Status:
    """Make what the caller is told of an error.

    Args:
        failure: what `classify` says of the error.
        error: its text and its attributes are shown, unless the failure is INTERNAL.
        request_id: for the caller to name to the operator.
        languages: the caller's `accept-language`; "" for none.

    Returns:
        A status of at most `MAX_DETAILS_BYTES`. `details_within` says what is cut.
    """
    if failure == INTERNAL:
        error = AgentError("internal error")
    message = shortened(str(error), MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=failure.code.value[0], message=message)
    localized = localized_message(failure.reason, languages)
    room_bytes = MAX_DETAILS_BYTES - status.ByteSize()
    status.details.extend(details_within(room_bytes, failure.reason, error, request_id, localized))
    return status


def trailers_of(
    status: status_pb2.Status, error: Exception, request_id: str
) -> tuple[tuple[str, str | bytes], ...]:
    """Make the trailing metadata of a call that failed, for `context.abort`.

    A call that was refused was not begun, so the client is told when to send it again
    (gRFC A6, "Pushback"): its library does so by itself if it has a retry policy.
    """
    trailers = ((STATUS_DETAILS, status.SerializeToString()), (REQUEST_ID, request_id))
    if isinstance(error, Refused):
        return (*trailers, (RETRY_PUSHBACK_MS, str(retry_delay_ms(error.retry_after_s))))
    return trailers
