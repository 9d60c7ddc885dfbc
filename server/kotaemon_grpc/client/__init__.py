"""The client library. It imports the wire and nothing of the server."""

from kotaemon_grpc.client.client import (
    DEFAULT_COLLECTION,
    DEFAULT_TARGET,
    NEW_CONVERSATION,
    AgentClient,
)
from kotaemon_grpc.client.errors import (
    AlreadyExistsError,
    AuthenticationError,
    CallError,
    ClientError,
    ConfigurationError,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from kotaemon_grpc.client.tls import TlsFiles
from kotaemon_grpc.client.values import (
    Answer,
    AnswerEvent,
    Citation,
    CitationAdded,
    Document,
    Imported,
    Location,
    SearchResult,
    TextDelta,
)

__all__ = [
    "DEFAULT_COLLECTION",
    "DEFAULT_TARGET",
    "NEW_CONVERSATION",
    "AgentClient",
    "AlreadyExistsError",
    "Answer",
    "AnswerEvent",
    "AuthenticationError",
    "CallError",
    "Citation",
    "CitationAdded",
    "ClientError",
    "ConfigurationError",
    "DeadlineError",
    "Document",
    "ExhaustedError",
    "FieldViolation",
    "Imported",
    "InvalidArgumentError",
    "Location",
    "NotFoundError",
    "SearchResult",
    "TextDelta",
    "TlsFiles",
    "UnavailableError",
]
