"""Handlers that speak gRPC themselves, as those of reflection and channelz do.

They get a context that looks like core's own, whose messages and whose end go
through the seam like all others.
"""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from kotaemon_grpc.pipeline.call import Method
from kotaemon_grpc.pipeline.ending import Aborted
from kotaemon_grpc.pipeline.registration import rpc_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from kotaemon_grpc.pipeline.call import Call
    from kotaemon_grpc.pipeline.seam import Seam, Send


def native_handlers(
    seam: Seam, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
) -> dict[Method, grpc.RpcMethodHandler]:
    """Make the handlers of a service whose methods take a request and gRPC's own context.

    Args:
        seam: wraps each method.
        service: the full name.
        handlers: by method name, as generated code hands them to a server. They are
            asynchronous: coroutines, or asynchronous generators of responses.
    """
    return dict(_wrapped(seam, service, name, each) for name, each in handlers.items())


def _wrapped(
    seam: Seam, service: str, name: str, handler: grpc.RpcMethodHandler
) -> tuple[Method, grpc.RpcMethodHandler]:
    method = Method(
        service=service,
        name=name,
        client_streaming=handler.request_streaming,
        server_streaming=handler.response_streaming,
        request="request",
        read=handler.request_deserializer,
        write=handler.response_serializer,
    )
    if method.server_streaming:
        respond = handler.stream_stream or handler.unary_stream
        serve = seam.stream(method, _generating(respond))
    else:
        respond = handler.stream_unary or handler.unary_unary
        serve = seam.unary(method, _returning(respond))
    return method, rpc_handler(method, serve)


def _returning(respond: Callable[..., Any]) -> Callable[[Any, Call], Awaitable[Any]]:
    async def handler(request: Any, call: Call) -> Any:
        context = NativeContext(call, request, None)
        response = await respond(request, context)
        context.raise_for_code()
        return response

    return handler


def _generating(
    respond: Callable[..., Any],
) -> Callable[[Any, Call, Send], AsyncGenerator[Any, None]]:
    async def handler(request: Any, call: Call, send: Send) -> AsyncGenerator[Any, None]:
        context = NativeContext(call, request, send)
        responding = respond(request, context)
        if inspect.isawaitable(responding):  # it writes to the context
            await responding
        else:
            async with aclosing(responding):
                async for response in responding:
                    yield response
        context.raise_for_code()

    return handler


class NativeContext:
    """What such a handler sees as its `grpc.aio.ServicerContext`.

    Whatever is not defined here is core's own.
    """

    def __init__(self, call: Call, requests: Any, send: Send | None) -> None:
        """Take the call, its requests, and what sends a response if there are several."""
        self._call = call
        self._context = call.servicer_context
        self._requests = requests
        self._send = send
        self._code: grpc.StatusCode = grpc.StatusCode.OK
        self._details = ""
        self._aborted: Aborted | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Read a message of a client that streams; `grpc.aio.EOF` at its end."""
        return await anext(self._requests, grpc.aio.EOF)

    async def write(self, response: Any) -> None:
        """Send a message to a client that takes a stream."""
        if self._send is None:
            raise TypeError("a method with one response returns it")
        await self._send(self._call, response)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the code that the call ends with when the handler returns."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Set the message that goes with the code."""
        self._details = details

    def code(self) -> grpc.StatusCode:
        """Return the code that was set."""
        return self._code

    def details(self) -> str:
        """Return the message that was set."""
        return self._details

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> None:
        """End the call with an error: raises what the handler has to let rise."""
        self._aborted = Aborted(code, details, tuple(trailing_metadata))
        raise self._aborted

    async def abort_with_status(self, status: grpc.Status) -> None:
        """End the call with an error: raises what the handler has to let rise."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def raise_for_code(self) -> None:
        """End the call as the handler did, even if it caught what `abort` raised."""
        if self._aborted is not None:
            raise self._aborted
        if self._code is not grpc.StatusCode.OK:
            raise Aborted(self._code, self._details, tuple(self._context.trailing_metadata() or ()))
