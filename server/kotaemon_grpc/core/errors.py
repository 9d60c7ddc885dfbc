"""What can go wrong, in the words of the domain.

    AgentError
    ├── InvalidArgument       the request breaks a constraint of the contract
    │   └── RequestIdReused   its request_id was used for another request
    ├── NotFound              a resource that is named does not exist
    ├── AlreadyExists         a resource that is to be created does
    ├── ContentTooLarge       a document is larger than the configured limit
    ├── StorageFull           there is no room for what is to be written
    ├── StorageUnavailable    the store cannot be written or read at the moment
    ├── Unauthenticated       the caller did not show who it is
    ├── TlsTooOld             the connection is less safe than the listener requires
    ├── PermissionDenied      the caller is known, and may not do this
    ├── ShuttingDown          the server stops, and the call took longer than it could wait
    ├── DeadlineExceeded      the call took longer than it may
    │   ├── StreamIdle        the caller was silent for too long
    │   └── ReaderTooSlow     the caller does not take what is sent to it
    └── Refused               the server has no room for the call now; it was not begun
        ├── Overloaded        all places are taken
        └── RateLimited       the caller calls more often than it may
    OperatorError             the server cannot start; for the operator, never for a caller

`pipeline/errors.py` gives each its canonical code and its details. A message
is for people: lower case, without a final period, without secrets, and never
with the text of a question or a document.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AgentError(Exception):
    """The root of all errors that a caller may be told of."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One broken constraint.

    `field` is the path that the client used, as `document.uri`; empty for the whole message.
    """

    field: str
    description: str


class InvalidArgument(AgentError):
    """The request breaks a constraint of the contract. Becomes INVALID_ARGUMENT."""

    def __init__(self, *violations: FieldViolation) -> None:
        """Take the broken constraints, at least one."""
        super().__init__(
            "; ".join(
                f"{violation.field}: {violation.description}".removeprefix(": ")
                for violation in violations
            )
        )
        self.violations = violations


class RequestIdReused(InvalidArgument):
    """A `request_id` was used before, for another request. Becomes INVALID_ARGUMENT."""

    def __init__(self, field: str) -> None:
        """Take what the client has to call the id."""
        super().__init__(FieldViolation(field, "was used before, for a request of other content"))


class ResourceType(enum.Enum):
    """The kinds of resource that a call can name (AIP-123)."""

    COLLECTION = "kotaemon/Collection"
    DOCUMENT = "kotaemon/Document"
    CONVERSATION = "kotaemon/Conversation"

    @property
    def noun(self) -> str:
        """The word for people: `document`."""
        return self.value.rpartition("/")[2].lower()


class _ResourceError(AgentError):
    def __init__(self, kind: ResourceType, name: str, what: str) -> None:
        super().__init__(f'{kind.noun} "{name}" {what}')
        self.kind = kind
        self.name = name


class NotFound(_ResourceError):
    """A resource does not exist, or not for this caller. Becomes NOT_FOUND."""

    def __init__(self, kind: ResourceType, name: str) -> None:
        """Take the kind and the resource name of what is missing."""
        super().__init__(kind, name, "does not exist")


class AlreadyExists(_ResourceError):
    """A resource that is to be created exists. Becomes ALREADY_EXISTS."""

    def __init__(self, kind: ResourceType, name: str) -> None:
        """Take the kind and the resource name of what is there."""
        super().__init__(kind, name, "already exists")


class ContentTooLarge(AgentError):
    """A document is larger than the configured limit. Becomes RESOURCE_EXHAUSTED."""

    def __init__(self, max_bytes: int) -> None:
        """Take the limit."""
        super().__init__(f"the document is larger than the limit of {max_bytes} bytes")
        self.max_bytes = max_bytes


class StorageFull(AgentError):
    """There is no room for what is to be written. Becomes RESOURCE_EXHAUSTED."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the server has no room left to store this")


class StorageUnavailable(AgentError):
    """The store cannot be used at the moment. Becomes UNAVAILABLE."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the server's store cannot be used at the moment")


class CredentialProblem(enum.Enum):
    """What is wrong with the proof of who calls; the value is for people."""

    MISSING = "no credentials were given that this listener accepts"
    MALFORMED = "the credentials cannot be read"
    EXPIRED = "the credentials have expired"
    NOT_YET_VALID = "the credentials are not valid yet"
    NOT_TRUSTED = "the credentials are not of an issuer that is trusted here"
    REVOKED = "the credentials have been revoked"


class Unauthenticated(AgentError):
    """The caller did not show who it is. Becomes UNAUTHENTICATED."""

    def __init__(self, problem: CredentialProblem, cause: str = "") -> None:
        """Take what is wrong. The caller is told no more, so that nobody learns by trying.

        Args:
            problem: what is wrong.
            cause: for the operator's log, which part of the credentials it is, as
                `audience`; without anything of their content.
        """
        super().__init__(problem.value)
        self.problem = problem
        self.cause = cause


class TlsTooOld(AgentError):
    """The listener requires a later version of TLS. Becomes FAILED_PRECONDITION."""

    def __init__(self, version: str, required: str) -> None:
        """Take the version of the connection and the least that is required, as `TLSv1.3`."""
        super().__init__(f"the connection uses {version or 'no TLS'}, and {required} is required")
        self.version = version
        self.required = required


class PermissionDenied(AgentError):
    """The caller is known, and may not do this. Becomes PERMISSION_DENIED."""

    def __init__(self, action: str, collection: str = "") -> None:
        """Take the method, as `kotaemon.v2.DocumentService/DeleteDocument`, or the collection.

        Args:
            action: what may not be done; empty if it is the collection.
            collection: the resource name of the collection that is not granted.
        """
        what = f'to use "{collection}"' if collection else f"to call {action}"
        super().__init__(f"the caller has no role that allows {what}")
        self.action = action
        self.collection = collection


class ShuttingDown(AgentError):
    """The server stops, and the call took longer than it could wait. Becomes UNAVAILABLE."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("the server stops, and the call took longer than it could wait")


class DeadlineExceeded(AgentError):
    """The call took longer than it may. Becomes DEADLINE_EXCEEDED."""

    def __init__(self, message: str = "the call took longer than it may") -> None:
        """Say so."""
        super().__init__(message)


class StreamIdle(DeadlineExceeded):
    """The caller sent nothing for too long. Becomes DEADLINE_EXCEEDED."""

    def __init__(self, limit_s: float) -> None:
        """Take the limit in seconds."""
        super().__init__(f"no message came for {limit_s:g} s")


class ReaderTooSlow(DeadlineExceeded):
    """The caller does not take what is sent to it. Becomes DEADLINE_EXCEEDED."""

    def __init__(self, limit_s: float) -> None:
        """Take the limit in seconds."""
        super().__init__(f"no message was taken for {limit_s:g} s")


class Refused(AgentError):
    """The server cannot take the call now: it was not begun, and may be tried again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        """Take why, and after how many seconds another attempt makes sense."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Refused):
    """All places are taken. Becomes UNAVAILABLE."""

    def __init__(self, retry_after_s: float) -> None:
        """Take after how many seconds another attempt makes sense."""
        super().__init__("all places are taken at the moment", retry_after_s)


class CredentialsSourceUnavailable(Refused):
    """What the credentials are verified with could not be had yet. Becomes UNAVAILABLE."""

    def __init__(self, retry_after_s: float) -> None:
        """Take after how many seconds another attempt makes sense."""
        super().__init__("the credentials cannot be verified at the moment", retry_after_s)


class RateLimited(Refused):
    """The caller calls more often than it may. Becomes RESOURCE_EXHAUSTED."""

    def __init__(self, limit: str, retry_after_s: float) -> None:
        """Take the limit for people, as "50 calls a second", and when to try again."""
        super().__init__(f"the caller may make {limit}", retry_after_s)
        self.limit = limit


class OperatorError(Exception):
    """The server cannot start. The message is one line that says what to do about it."""
