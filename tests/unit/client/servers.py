"""Servers of the test's own process, that a client is to choose among."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from kotaemon_grpc.client.transport import CallSpec
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Question = pb.AskQuestionRequest
UNARY = CallSpec("/test.Echo/Unary", Question, (), 30.0)
CLIENT_STREAM = CallSpec("/test.Echo/ClientStream", Question, (), 30.0)
SERVER_STREAM = CallSpec("/test.Echo/ServerStream", Question, (), 30.0)
BIDI = CallSpec("/test.Echo/Bidi", Question, (), None)


def ask(text: str) -> Question:
    return Question(question=text)


def server_credentials(
    directory: Path, name: str = "server", *, mutual: bool = False
) -> grpc.ServerCredentials:
    pair = (
        (directory / f"{name}-key.pem").read_bytes(),
        (directory / f"{name}.pem").read_bytes(),
    )
    roots = (directory / "ca.pem").read_bytes() if mutual else None
    return grpc.ssl_server_credentials([pair], roots, require_client_auth=mutual)


def issue(directory: Path, name: str, *sans: str, out: Path | None = None) -> None:
    """Issue a certificate for a server of these names, or for a client if there are none."""
    usage = Usage.SERVER if sans else Usage.CLIENT
    pki.issue(directory, name, Subject(name, sans=sans, usages=(usage,)), out=out)


@dataclass
class EchoServer:
    """Says what it is told, and counts its calls. Four words have a meaning."""

    credentials: grpc.ServerCredentials | None = None
    host: str = "127.0.0.1"
    calls: int = 0
    running: int = 0
    certificates: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    began: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.health = health.aio.HealthServicer()
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        shape = {
            "request_deserializer": Question.FromString,
            "response_serializer": Question.SerializeToString,
        }
        handlers = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary, **shape),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self._client_stream, **shape),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self._server_stream, **shape),
            "Bidi": grpc.stream_stream_rpc_method_handler(self._bidi, **shape),
        }
        service = grpc.method_handlers_generic_handler("test.Echo", handlers)
        self.server.add_generic_rpc_handlers((service,))
        address = f"{self.host}:0"
        self.port = (
            self.server.add_insecure_port(address)
            if self.credentials is None
            else self.server.add_secure_port(address, self.credentials)
        )
        await self.server.start()

    @property
    def target(self) -> str:
        return f"{self.host}:{self.port}"

    async def serve(self, *, serving: bool) -> None:
        """Say by the health service whether it serves."""
        kinds = health_pb2.HealthCheckResponse
        await self.health.set("", kinds.SERVING if serving else kinds.NOT_SERVING)

    async def _unary(self, request: Question, context: Any) -> Question:
        async with _Handling(self, context):
            await self._obey(request, context)
            return request

    async def _client_stream(self, requests: AsyncIterator[Question], context: Any) -> Question:
        async with _Handling(self, context):
            said = []
            async for request in requests:
                if request.question == "enough":
                    break
                await self._obey(request, context)
                said.append(request.question)
            return ask(" ".join(said))

    async def _server_stream(self, request: Question, context: Any) -> AsyncIterator[Question]:
        async with _Handling(self, context):
            for word in request.question.split():
                await self._obey(ask(word), context)
                yield ask(word)

    async def _bidi(
        self, requests: AsyncIterator[Question], context: Any
    ) -> AsyncIterator[Question]:
        async with _Handling(self, context):
            async for request in requests:
                if request.question == "enough":
                    return
                await self._obey(request, context)
                yield request

    async def _obey(self, request: Question, context: Any) -> None:
        self.began.set()
        match request.question:
            case "wait":
                await self.released.wait()
            case "cancel":
                await context.abort(grpc.StatusCode.CANCELLED, "as was asked")
            case "fail":
                await context.abort(grpc.StatusCode.NOT_FOUND, "as was asked")


@dataclass
class _Handling:
    server: EchoServer
    context: Any

    async def __aenter__(self) -> None:
        self.server.calls += 1
        self.server.running += 1
        self.server.metadata = dict(self.context.invocation_metadata())
        shown = self.context.auth_context().get("x509_common_name", [b""])
        self.server.certificates.append(shown[0].decode())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.server.running -= 1
        self.server.ended.set()
        if kind is asyncio.CancelledError:
            self.server.was_cancelled.set()
