"""What fits into the trailers of a call, with the limits that a gRPC client has by default."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import TlsFiles
from kotaemon_grpc.core.errors import (
    AgentError,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Overloaded,
    RateLimited,
    ResourceType,
)
from kotaemon_grpc.pipeline.errors import MAX_DETAILS_BYTES, classify, status_of, trailers_of
from kotaemon_grpc.transport import tls
from kotaemon_grpc.transport.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

METHOD = "/kotaemon.v2.AgentService/AskQuestion"
REQUEST_ID = "r" * 128
ATTEMPTS = 20
CALL_LIMIT_S = 60

LARGEST: dict[str, AgentError] = {
    "violations, ASCII": InvalidArgument(
        *(FieldViolation(f"f{n}" + "x" * 600, "is bad " * 100) for n in range(1000))
    ),
    "violations, Chinese": InvalidArgument(
        *(FieldViolation(f"f{n}" + "鮑" * 600, "不好" * 300) for n in range(1000))
    ),
    "violations, one byte each": InvalidArgument(*(FieldViolation("", "%") for _ in range(10_000))),
    "violations, control characters": InvalidArgument(
        *(FieldViolation("\x01" * 600, "\x02" * 600) for _ in range(1000))
    ),
    "a long name": NotFound(ResourceType.DOCUMENT, "🦑" * 5000),
    "a refusal": RateLimited("每" * 5000, 1e300),
}


@asynccontextmanager
async def calling(
    certs: Path, handler: Callable[[bytes, Any], Awaitable[bytes]], *options: tuple[str, Any]
) -> AsyncIterator[Callable[[], Any]]:
    """Serve a handler over TLS, and call it as a client does that sets no limits."""
    material = tls.load(certs / "server.pem", certs / "server-key.pem", certs / "ca.pem")
    server = grpc.aio.server()
    service, _, name = METHOD[1:].partition("/")
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                service, {name: grpc.unary_unary_rpc_method_handler(handler)}
            ),
        )
    )
    port = server.add_secure_port("localhost:0", Rotation(lambda: material).credentials())
    await server.start()
    credentials = TlsFiles.in_directory(certs).credentials()
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        call = channel.unary_unary(METHOD)
        yield lambda: call(b"", timeout=CALL_LIMIT_S)
    await server.stop(None)


async def abort_with(error: AgentError, context: Any) -> None:
    status = status_of(classify(error), error, REQUEST_ID, "zh-CN")
    await context.abort(
        classify(error).code, status.message, trailers_of(status, error, REQUEST_ID)
    )


@pytest.mark.parametrize("what", LARGEST)
async def test_the_largest_status_that_we_make_arrives_whole_every_time(
    what: str, certs: Path, failure_of: Any
) -> None:
    error = LARGEST[what]
    expected = status_of(classify(error), error, REQUEST_ID, "zh-CN")
    assert expected.ByteSize() <= MAX_DETAILS_BYTES

    async def fail(_request: bytes, context: Any) -> bytes:
        await abort_with(error, context)
        return b""

    async with calling(certs, fail) as call:
        for _ in range(ATTEMPTS):
            failure = await failure_of(call())
            assert failure.error.code() is classify(error).code
            assert failure.error.details() == expected.message
            assert failure.status == expected
            assert failure.kinds[0] == "ErrorInfo"
            assert failure.detail("LocalizedMessage").locale == "zh-CN"
            assert dict(failure.error.trailing_metadata())["x-request-id"] == REQUEST_ID


async def test_core_replaces_a_status_whose_trailers_are_too_large(
    certs: Path, failure_of: Any
) -> None:
    """Why details have a limit: at 20 KB the client learns neither code nor reason."""

    async def fail(_request: bytes, context: Any) -> bytes:
        await context.abort(
            grpc.StatusCode.NOT_FOUND, "missing", (("grpc-status-details-bin", b"x" * 20_000),)
        )
        return b""

    async with calling(certs, fail) as call:
        for _ in range(ATTEMPTS):
            failure = await failure_of(call())
            assert failure.error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "metadata size exceeds" in failure.error.details()
            assert not failure.status.details


@pytest.mark.parametrize("error", [Overloaded(0.001), RateLimited("1 call an hour", 0.001)])
async def test_a_client_with_a_retry_policy_comes_back_when_it_is_told(
    error: AgentError, certs: Path
) -> None:
    refusals = [error]

    async def refuse_once(_request: bytes, context: Any) -> bytes:
        if refusals:
            await abort_with(refusals.pop(), context)
        return b"served"

    policy = {
        "maxAttempts": 2,
        # Beyond the time that the call has: what does not heed the server gives up.
        "initialBackoff": f"{10 * CALL_LIMIT_S}s",
        "maxBackoff": f"{10 * CALL_LIMIT_S}s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with calling(certs, refuse_once, ("grpc.service_config", config)) as call:
        assert await call() == b"served"
    assert not refusals
