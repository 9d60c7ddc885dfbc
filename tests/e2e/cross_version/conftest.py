"""The contract as it was released last, apart from the code that is generated of today's."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable

    from google.protobuf.descriptor import MethodDescriptor

RELEASED = Path(__file__).parents[3] / "proto" / "baseline.binpb"


class Released:
    """Messages and methods in a descriptor pool of their own."""

    def __init__(self, content: bytes) -> None:
        self._files = descriptor_pb2.FileDescriptorSet.FromString(content)
        self._pool = descriptor_pool.DescriptorPool()
        for file in self._files.file:
            self._pool.Add(file)

    def message(self, name: str) -> Any:
        """The class of a message, by its full name."""
        return GetMessageClass(self._pool.FindMessageTypeByName(name))

    @cached_property
    def methods(self) -> dict[str, MethodDescriptor]:
        """By path, as `kotaemon.v2.AgentService/AskQuestion`."""
        return {
            f"{service.full_name}/{method.name}": method
            for file in self._files.file
            for service in self._pool.FindFileByName(file.name).services_by_name.values()
            for method in service.methods
        }


class Stub:
    """Calls one method as a program does that was built with the release."""

    def __init__(self, channel: grpc.aio.Channel, path: str, method: MethodDescriptor) -> None:
        self.request = GetMessageClass(method.input_type)
        kind = "_".join(
            "stream" if streams else "unary"
            for streams in (method.client_streaming, method.server_streaming)
        )
        self._call = getattr(channel, kind)(
            f"/{path}",
            self.request.SerializeToString,
            GetMessageClass(method.output_type).FromString,
        )

    async def one(self, **fields: Any) -> Any:
        """Send one message and get one."""
        return await self._call(self.request(**fields))

    async def one_for(self, *requests: Any) -> Any:
        """Send messages and get one."""
        return await self._call(_all_of(requests))

    async def all(self, **fields: Any) -> list[Any]:
        """Send one message and get any number."""
        return [response async for response in self._call(self.request(**fields))]

    async def all_for(self, *requests: Any) -> list[Any]:
        """Send messages and get any number."""
        return [response async for response in self._call(_all_of(requests))]


async def _all_of(requests: tuple[Any, ...]) -> AsyncIterator[Any]:
    for request in requests:
        yield request


class ReleasedServer(grpc.GenericRpcHandler):  # type: ignore[misc] # untyped
    """Serves the methods of the release, and knows no field that came later.

    The work is done by today's server behind it: each message that passes is read with
    the released types and what these do not know is dropped.

    Attributes:
        address: where it serves, without TLS.
        refused: the paths of the calls of methods that it does not have.
    """

    def __init__(self, released: Released, behind: grpc.aio.Channel, lacks: str) -> None:
        self.refused: list[str] = []
        self._behind = behind
        self._handlers = {
            path: self._handler(path, method)
            for path, method in released.methods.items()
            if path != lacks
        }
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Find the handler of a call: what a server asks its generic handlers for."""
        path = details.method.removeprefix("/")
        if path not in self._handlers and path.startswith("kotaemon."):  # not of health
            self.refused.append(path)
        return self._handlers.get(path)

    def _handler(self, path: str, method: MethodDescriptor) -> grpc.RpcMethodHandler:
        call = self._behind.stream_stream(f"/{path}")
        read_request = _known(GetMessageClass(method.input_type))
        read_response = _known(GetMessageClass(method.output_type))

        async def serve(
            requests: AsyncIterable[bytes], context: grpc.aio.ServicerContext
        ) -> AsyncIterator[bytes]:
            async def known() -> AsyncIterator[bytes]:
                async for request in requests:
                    yield read_request(request)

            passed_on = call(known(), timeout=context.time_remaining())
            try:
                async for response in passed_on:
                    yield read_response(response)
            except grpc.aio.AioRpcError as error:
                trailers = tuple(error.trailing_metadata() or ())
                await context.abort(error.code(), error.details(), trailers)

        # On the wire a method that streams and one that does not are the same.
        return grpc.stream_stream_rpc_method_handler(serve)


def _known(kind: Any) -> Callable[[bytes], bytes]:
    def read(content: bytes) -> bytes:
        message = kind.FromString(content)
        message.DiscardUnknownFields()
        return message.SerializeToString()

    return read


@pytest.fixture(scope="session")
def released() -> Released:
    """The contract as it was released last."""
    return Released(RELEASED.read_bytes())


@pytest.fixture
def stub(released: Released, channel: grpc.aio.Channel) -> Callable[[str], Stub]:
    """Call a released method of today's server: `stub("kotaemon.v2.AgentService/AskQuestion")`."""
    return lambda path: Stub(channel, path, released.methods[path])


@pytest.fixture
def released_server(released: Released, channel: grpc.aio.Channel) -> Callable[..., Any]:
    """Serve the release: `async with released_server(lacks=path) as serving`."""

    @asynccontextmanager
    async def serve(lacks: str = "") -> AsyncIterator[ReleasedServer]:
        serving = ReleasedServer(released, channel, lacks)
        await serving.server.start()
        try:
            yield serving
        finally:
            await serving.server.stop(None)

    return serve
