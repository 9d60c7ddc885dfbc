"""What can go wrong with a call.

ClientError
├── ConfigurationError         the client was made with what cannot work
├── CredentialsError           no credentials could be got, and so no call was made
└── CallError                  the call failed; carries what the server said
    ├── InvalidArgumentError   `field_violations` names the fields
    ├── NotFoundError          what was named does not exist
    ├── AlreadyExistsError     what was to be created does
    ├── AuthenticationError    the server does not know the caller
    ├── PermissionDeniedError  the caller may not do this
    ├── PreconditionError      the call cannot be made as things are
    ├── ExhaustedError         a limit was reached
    ├── UnavailableError       no server could be reached, or it cannot serve now
    └── DeadlineError          the deadline passed first
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from kotaemon_grpc.wire.headers import RETRY_PUSHBACK_MS, STATUS_DETAILS

if TYPE_CHECKING:
    from google.protobuf import any_pb2


class ClientError(Exception):
    """The root of everything that the client raises."""


class ConfigurationError(ClientError):
    """The client was made with what cannot work."""


class CredentialsError(ClientError):
    """No credentials could be got, and so no call was made."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One constraint that the request breaks."""

    field: str
    description: str


class CallError(ClientError):
    """A call failed.

    Attributes:
        code: the canonical code; UNKNOWN if the server's is none.
        message: for people.
        reason: for programs: one of `wire.reasons.Reason`, empty if the server did
            not say.
        request_id: the server's name of the call: what to name to its operator, who
            finds it in the log; empty if the server did not say. It is not the
            `request_id` by which a request is repeated.
        field_violations: which fields of the request are not valid.
        retry_after_s: when another attempt makes sense, in seconds from now; None if
            the server did not say.
        retry_pushback_ms: the same of a call that the server did not begin, in
            milliseconds (gRFC A6, "Pushback"); below 0 if it is not to be repeated, and
            None if the server did not say.
        sequence_number: of a stream that broke, the number of the last event that was
            received; 0 if there was none.
    """

    def __init__(self, status: status_pb2.Status) -> None:
        """Take what the server said."""
        self.code = _code_of(status)
        self.message = status.message
        self.reason = ""
        self.request_id = ""
        self.field_violations: tuple[FieldViolation, ...] = ()
        self.retry_after_s: float | None = None
        self.retry_pushback_ms: int | None = None
        self.sequence_number = 0
        super().__init__(f"{self.code.name}: {self.message}")
        for detail in status.details:
            # What cannot be read is left out: the code and the message still say what failed.
            with suppress(DecodeError):
                self._read(detail)

    def _read(self, detail: any_pb2.Any) -> None:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info := error_details_pb2.ErrorInfo())
            self.reason = info.reason
        elif detail.Is(error_details_pb2.RequestInfo.DESCRIPTOR):
            detail.Unpack(request := error_details_pb2.RequestInfo())
            self.request_id = request.request_id
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry := error_details_pb2.RetryInfo())
            self.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(bad_request := error_details_pb2.BadRequest())
            self.field_violations = tuple(
                FieldViolation(violation.field, violation.description)
                for violation in bad_request.field_violations
            )


class InvalidArgumentError(CallError):
    """The request breaks a constraint of the contract."""


class NotFoundError(CallError):
    """What the request names does not exist."""


class AlreadyExistsError(CallError):
    """What the request is to create exists."""


class AuthenticationError(CallError):
    """The server does not know the caller."""


class PermissionDeniedError(CallError):
    """The caller may not do this."""


class PreconditionError(CallError):
    """The call cannot be made as things are: something else has to change first."""


class ExhaustedError(CallError):
    """A limit was reached."""


class UnavailableError(CallError):
    """No server could be reached, or it cannot serve at the moment."""


class DeadlineError(CallError):
    """The deadline passed before the call ended."""


LOST_REASON = (
    "the call ended while a request was being sent, and what the server said of it was lost"
)
"""The message in place of gRPC's own, which says only that core failed."""

# What grpc.aio says when the call has ended before a message of it is sent (grpcio 1.85.1).
_LOST = (grpc.StatusCode.INTERNAL, "Internal error from Core")
_INT32 = range(-(2**31), 2**31)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_CLASSES = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def error_from_rpc(error: grpc.aio.AioRpcError) -> CallError:
    """Make of what gRPC raises an error that says what the server said."""
    status = status_of(error.code(), error.details() or "")
    if (error.code(), status.message) == _LOST:
        status = status_of(grpc.StatusCode.UNAVAILABLE, LOST_REASON)
    pushback_ms = None
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS and isinstance(value, bytes):
            with suppress(DecodeError):
                status = status_pb2.Status.FromString(value)
        elif key == RETRY_PUSHBACK_MS:
            pushback_ms = _milliseconds(value)
    made = error_from_status(status)
    made.retry_pushback_ms = pushback_ms
    return made


def error_from_status(status: status_pb2.Status) -> CallError:
    """Make an error of a status, as the terminal event of a stream carries it."""
    return _CLASSES.get(_code_of(status), CallError)(status)


def failed(code: grpc.StatusCode, message: str) -> CallError:
    """Make the error of a call whose end no server has told."""
    return error_from_status(status_of(code, message))


def status_of(code: grpc.StatusCode, message: str) -> status_pb2.Status:
    """Make a status without details."""
    return status_pb2.Status(code=code.value[0], message=message)


def _code_of(status: status_pb2.Status) -> grpc.StatusCode:
    return _CODES.get(status.code, grpc.StatusCode.UNKNOWN)


def _milliseconds(value: str | bytes) -> int:
    """Read a pushback; what is no number of 32 bits forbids to repeat the call (gRFC A6)."""
    try:
        milliseconds = int(value)
    except ValueError:
        return -1
    return milliseconds if milliseconds in _INT32 else -1
