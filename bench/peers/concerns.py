"""The concerns of the assembled peers, each by the library that people take for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import Counter, Histogram

import question
from material import ALGORITHM, AUDIENCE, ISSUER, JWKS_FILE, SCOPE
from peers.host import SAMPLED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

METHOD = f"{question.SERVICE}/{question.METHOD}"
REQUIRED_SCOPES: Mapping[str, str] = {METHOD: SCOPE}
"""The policy: by method, the scope that its callers need."""

_METHOD_LABELS = ("type", "service", "method")
STARTED = Counter("server_started", "Calls that began.", _METHOD_LABELS)
RECEIVED = Counter("server_msg_received", "Messages that came.", _METHOD_LABELS)
SENT = Counter("server_msg_sent", "Messages that went out.", _METHOD_LABELS)
HANDLED = Counter("server_handled", "Calls that ended.", (*_METHOD_LABELS, "code"))
SECONDS = Histogram("server_handling_seconds", "How long calls took.", _METHOD_LABELS)


class Tokens:
    """Verifies tokens with PyJWT, each time anew."""

    def __init__(self, directory: Path) -> None:
        """Read the key set."""
        keys = jwt.PyJWKSet.from_json((directory / JWKS_FILE).read_text())
        self._keys = {key.key_id: key for key in keys.keys}

    def claims(self, authorization: str) -> dict[str, Any]:
        """Verify the value of an `authorization` header.

        Raises:
            jwt.InvalidTokenError: it holds no token that is good here.
        """
        scheme, _, token = authorization.partition(" ")
        key = self._keys.get(jwt.get_unverified_header(token).get("kid"))
        if scheme.lower() != "bearer" or key is None:
            raise jwt.InvalidTokenError("no token of a key that is known")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": ["exp", "sub", "tenant"]},
        )
        return claims


def allowed(claims: Mapping[str, Any], method: str) -> bool:
    """Tell whether the policy lets the bearer of claims call a method."""
    return REQUIRED_SCOPES.get(method) in claims.get("scope", "").split()


def logger(path: Path) -> FilteringBoundLogger:
    """Make a logger of JSON lines with structlog's own processors."""
    made: FilteringBoundLogger = structlog.wrap_logger(
        structlog.WriteLogger(path.open("w")),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=True,
    )
    return made


def tracer_provider(service: str, otlp: str) -> TracerProvider:
    """Make the SDK's provider, which exports a share of the calls by OTLP."""
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(SAMPLED)),
        resource=Resource({"service.name": service}),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(otlp, insecure=True)))
    trace.set_tracer_provider(provider)
    return provider


def trace_id() -> str:
    """Return the id of the present trace, 32 hexadecimal digits."""
    return trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
