"""The stack that people assemble on `grpc.aio`: an interceptor for each concern.

grpc-interceptor holds it together; prometheus-client counts, structlog logs, PyJWT
verifies each token, opentelemetry-instrumentation-grpc traces.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import structlog
from grpc_interceptor.server import AsyncServerInterceptor, parse_method_name
from opentelemetry.instrumentation.grpc import aio_server_interceptor

import question
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.errors import InvalidArgument
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers import bare, concerns, host

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from peers.host import Setting


class Metrics(AsyncServerInterceptor):
    """Counts and times every call."""

    async def intercept(
        self,
        method: Callable[..., Any],
        request_or_iterator: Any,
        context: grpc.aio.ServicerContext,
        method_name: str,
    ) -> Any:
        """Handle a call."""
        name = parse_method_name(method_name)
        labels = ("unary", name.fully_qualified_service, name.method)
        started_s = time.perf_counter()
        concerns.STARTED.labels(*labels).inc()
        concerns.RECEIVED.labels(*labels).inc()
        try:
            response = await method(request_or_iterator, context)
            concerns.SENT.labels(*labels).inc()
        finally:
            concerns.HANDLED.labels(*labels, _code(context).name).inc()
            concerns.SECONDS.labels(*labels).observe(time.perf_counter() - started_s)
        return response


class AccessLog(AsyncServerInterceptor):
    """Writes a line a call."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        """Take where to."""
        self._logger = logger

    async def intercept(
        self,
        method: Callable[..., Any],
        request_or_iterator: Any,
        context: grpc.aio.ServicerContext,
        method_name: str,
    ) -> Any:
        """Handle a call."""
        started_s = time.perf_counter()
        name = parse_method_name(method_name)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            grpc_service=name.fully_qualified_service,
            grpc_method=name.method,
            request_id=uuid.uuid4().hex,
            trace_id=concerns.trace_id(),
        )
        try:
            response = await method(request_or_iterator, context)
        except Exception:
            self._line(context, started_s, request_or_iterator.ByteSize(), 0)
            raise
        self._line(context, started_s, request_or_iterator.ByteSize(), response.ByteSize())
        return response

    def _line(
        self,
        context: grpc.aio.ServicerContext,
        started_s: float,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        self._logger.info(
            "call",
            code=_code(context).name,
            duration_ms=round((time.perf_counter() - started_s) * 1000, 3),
            received_bytes=received_bytes,
            sent_bytes=sent_bytes,
        )


class Authentication(AsyncServerInterceptor):
    """Verifies the token and asks the policy."""

    def __init__(self, tokens: concerns.Tokens) -> None:
        """Take what verifies tokens."""
        self._tokens = tokens

    async def intercept(
        self,
        method: Callable[..., Any],
        request_or_iterator: Any,
        context: grpc.aio.ServicerContext,
        method_name: str,
    ) -> Any:
        """Handle a call."""
        metadata = dict(context.invocation_metadata())
        try:
            claims = self._tokens.claims(metadata.get("authorization", ""))
        except jwt.InvalidTokenError:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is not valid")
        structlog.contextvars.bind_contextvars(principal=claims["sub"], tenant=claims["tenant"])
        if not concerns.allowed(claims, method_name.removeprefix("/")):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "a scope is missing")
        return await method(request_or_iterator, context)


async def ask_question(
    request: pb.AskQuestionRequest, context: grpc.aio.ServicerContext
) -> pb.AskQuestionResponse:
    """Check the fields and answer what is always answered."""
    checks = Checks()
    checks.question("question", request.question)
    checks.collection("collection", request.collection)
    checks.language("language_code", request.language_code)
    checks.context("context", request.context)
    if request.conversation:
        checks.name("conversation", request.conversation, "conversations")
    try:
        checks.done()
    except InvalidArgument as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    return await bare.ask_question(request, context)


def _code(context: grpc.aio.ServicerContext) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next(each for each in grpc.StatusCode if each.value[0] == (code or 0))


async def serve(setting: Setting) -> None:
    """Serve."""
    provider = concerns.tracer_provider("assembled", setting.otlp)
    method = grpc.unary_unary_rpc_method_handler(
        ask_question,
        request_deserializer=pb.AskQuestionRequest.FromString,
        response_serializer=pb.AskQuestionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(question.SERVICE, {question.METHOD: method})
    interceptors = (
        aio_server_interceptor(provider),
        Metrics(),
        AccessLog(concerns.logger(setting.log)),
        Authentication(concerns.Tokens(setting.directory)),
    )
    await host.serve_grpc(setting, (handler,), interceptors)
    provider.shutdown()


if __name__ == "__main__":
    host.run(serve)
