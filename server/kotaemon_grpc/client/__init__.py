"""The client library. It imports the wire and nothing of the server."""

from kotaemon_grpc.client.client import DEFAULT_TARGET, AgentClient
from kotaemon_grpc.client.credentials import (
    ApiKey,
    ApiKeyFile,
    Credentials,
    StaticToken,
    TokenFile,
)
from kotaemon_grpc.client.documents import DEFAULT_COLLECTION
from kotaemon_grpc.client.errors import (
    AlreadyExistsError,
    AuthenticationError,
    CallError,
    ClientError,
    ConfigurationError,
    CredentialsError,
    DeadlineError,
    ExhaustedError,
    FieldViolation,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnavailableError,
)
from kotaemon_grpc.client.hooks import Call, Hooks
from kotaemon_grpc.client.oauth2 import OAuth2ClientCredentials
from kotaemon_grpc.client.questions import NEW_CONVERSATION
from kotaemon_grpc.client.retry import RetryPolicy
from kotaemon_grpc.client.sync import SyncAgentClient
from kotaemon_grpc.client.tls import TlsFiles
from kotaemon_grpc.client.values import (
    Answer,
    AnswerEvent,
    Citation,
    CitationAdded,
    Conversation,
    Document,
    GoingAway,
    Imported,
    Location,
    Question,
    SearchResult,
    TextDelta,
    Turn,
    Usage,
)

__all__ = [
    "DEFAULT_COLLECTION",
    "DEFAULT_TARGET",
    "NEW_CONVERSATION",
    "AgentClient",
    "AlreadyExistsError",
    "Answer",
    "AnswerEvent",
    "ApiKey",
    "ApiKeyFile",
    "AuthenticationError",
    "Call",
    "CallError",
    "Citation",
    "CitationAdded",
    "ClientError",
    "ConfigurationError",
    "Conversation",
    "Credentials",
    "CredentialsError",
    "DeadlineError",
    "Document",
    "ExhaustedError",
    "FieldViolation",
    "GoingAway",
    "Hooks",
    "Imported",
    "InvalidArgumentError",
    "Location",
    "NotFoundError",
    "OAuth2ClientCredentials",
    "PermissionDeniedError",
    "PreconditionError",
    "Question",
    "RetryPolicy",
    "SearchResult",
    "StaticToken",
    "SyncAgentClient",
    "TextDelta",
    "TlsFiles",
    "TokenFile",
    "Turn",
    "UnavailableError",
    "Usage",
]
