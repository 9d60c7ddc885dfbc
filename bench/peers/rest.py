"""The same concerns on FastAPI and uvicorn: HTTP/1.1, TLS and JSON, put together as documented."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Any

import jwt
import structlog
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from pydantic import BaseModel, Field, StringConstraints

import question
from kotaemon_grpc.core import limits
from peers import concerns, host

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from peers.host import Setting

LABELS = ("unary", *concerns.METHOD.split("/"))
_ID = r"[a-z0-9][a-z0-9._-]{0,62}"

_ContextKey = Annotated[
    str, StringConstraints(min_length=1, max_length=limits.MAX_CONTEXT_KEY_CHARS)
]
_ContextValue = Annotated[str, StringConstraints(max_length=limits.MAX_CONTEXT_VALUE_CHARS)]


class Question(BaseModel):
    """The request."""

    question: str = Field(max_length=limits.MAX_QUESTION_CHARS, pattern=r"\S")
    collection: str = Field("", pattern=rf"^(collections/{_ID})?$")
    conversation: str = Field("", pattern=rf"^(conversations/{_ID})?$")
    language_code: str = Field(
        "",
        max_length=limits.MAX_LANGUAGE_CHARS,
        pattern=r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
    )
    context: dict[_ContextKey, _ContextValue] = Field(
        default_factory=dict, max_length=limits.MAX_CONTEXT_ENTRIES
    )


class Answer(BaseModel):
    """The answer proper."""

    text: str


class Answered(BaseModel):
    """The response."""

    answer: Answer


async def authenticate(request: Request) -> dict[str, Any]:
    """Verify the token and ask the policy; return the token's claims."""
    try:
        claims: dict[str, Any] = request.app.state.tokens.claims(
            request.headers.get("authorization", "")
        )
    except jwt.InvalidTokenError:
        raise HTTPException(401, "the token is not valid") from None
    request.state.claims = claims
    if not concerns.allowed(claims, concerns.METHOD):
        raise HTTPException(403, "a scope is missing")
    return claims


async def ask_question(
    _question: Question, _claims: Annotated[dict[str, Any], Depends(authenticate)]
) -> Answered:
    """Answer what is always answered."""
    return Answered(answer=Answer(text=question.ANSWER))


def add_middleware(app: FastAPI, logger: FilteringBoundLogger) -> None:
    """Add the access line and the metrics, as FastAPI's documentation does it."""

    @app.middleware("http")
    async def log(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        started_s = time.perf_counter()
        bind(request.url.path)
        response = await call_next(request)
        claims = getattr(request.state, "claims", {})
        logger.info(
            "call",
            code=response.status_code,
            duration_ms=round((time.perf_counter() - started_s) * 1000, 3),
            principal=claims.get("sub", ""),
            tenant=claims.get("tenant", ""),
            received_bytes=int(request.headers.get("content-length", "0")),
            sent_bytes=int(response.headers.get("content-length", "0")),
        )
        return response

    @app.middleware("http")
    async def count(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        started_s = time.perf_counter()
        concerns.STARTED.labels(*LABELS).inc()
        concerns.RECEIVED.labels(*LABELS).inc()
        response = await call_next(request)
        concerns.SENT.labels(*LABELS).inc()
        concerns.HANDLED.labels(*LABELS, response.status_code).inc()
        concerns.SECONDS.labels(*LABELS).observe(time.perf_counter() - started_s)
        return response


def bind(path: str) -> None:
    """Begin the context of the lines of a call."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(
        path=path, request_id=uuid.uuid4().hex, trace_id=concerns.trace_id()
    )


async def serve(
    setting: Setting,
    add: Callable[[FastAPI, FilteringBoundLogger], None] = add_middleware,
    service: str = "rest",
) -> None:
    """Serve until told to end, with what `add` adds."""
    provider = concerns.tracer_provider(service, setting.otlp)
    # FastAPI would trace each call once more by itself.
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.state.tokens = concerns.Tokens(setting.directory)
    app.post(question.REST_PATH)(ask_question)
    add(app, concerns.logger(setting.log))
    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=provider, exclude_spans=["receive", "send"]
    )
    config = uvicorn.Config(
        app,
        http="httptools",
        ssl_certfile=setting.directory / "server.pem",
        ssl_keyfile=setting.directory / "server-key.pem",
        ssl_ca_certs=str(setting.directory / "ca.pem"),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        await host.until_told(listening.getsockname()[1])
        server.should_exit = True
        await serving
    provider.shutdown()


if __name__ == "__main__":
    host.run(serve)
