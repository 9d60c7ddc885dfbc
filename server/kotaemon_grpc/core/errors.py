"""What can go wrong, in the words of the domain.

    AgentError
    ├── InvalidArgument       the request breaks a constraint of the contract
    ├── NotFound              a resource that is named does not exist
    ├── AlreadyExists         a resource that is to be created does
    ├── ContentTooLarge       a document is larger than the configured limit
    ├── StorageFull           there is no room for what is to be written
    ├── StorageUnavailable    the store cannot be written or read at the moment
    └── OperatorError         the server cannot start; for the operator, never for a caller

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


class OperatorError(Exception):
    """The server cannot start. The message is one line that says what to do about it."""
