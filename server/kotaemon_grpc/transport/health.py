"""gRPC health checking v1: one state, told on every listener.

Probes of Kubernetes speak no TLS, so there is a second server, in plaintext,
that serves nothing else.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from kotaemon_grpc.transport.listener import Bounds, bind_plaintext, server_options
from kotaemon_grpc.transport.threaded_health import (
    LAST_WORDS_S,
    MAX_WATCHES,
    NO_REQUEST,
    REQUEST_TIMEOUT_S,
    ThreadedHealthServicer,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kotaemon_grpc.transport.address import Address

SERVICE_NAME = "grpc.health.v1.Health"
_THREADS = MAX_WATCHES + 12
# A call has a thread: one connection never takes them all.
_BOUNDS = Bounds(max_message_bytes=4096, max_concurrent_streams=4, max_connections=100)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class _Servicer:
    """Health checking v1 on the event loop, where no peer can hold up another, or a drain.

    Its methods read their one request themselves, for no longer than the limit.
    """

    def __init__(self, request_timeout_s: float) -> None:
        self._request_timeout_s = request_timeout_s
        self._statuses: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._watches: set[asyncio.Timeout] = set()
        self._last_words_s: float | None = None

    def set(self, service: str, status: Any) -> None:
        self._statuses[service] = status
        self._wake()

    def end_watches(self) -> None:
        self._last_words_s = LAST_WORDS_S
        end_s = asyncio.get_running_loop().time() + LAST_WORDS_S
        for limit in self._watches:
            limit.reschedule(end_s)
        self._wake()

    async def Check(  # noqa: N802 - the name in the protocol
        self, _requests: object, context: grpc.aio.ServicerContext
    ) -> Any:
        request = await self._read(context)
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802 - the name in the protocol
        self, _requests: object, context: grpc.aio.ServicerContext
    ) -> None:
        request = await self._read(context)
        with suppress(TimeoutError, grpc.aio.BaseError):  # the latter: the client has gone
            async with asyncio.timeout(self._last_words_s) as limit:
                self._watches.add(limit)
                try:
                    await self._tell(request.service, context)
                finally:
                    self._watches.discard(limit)

    async def _tell(self, service: str, context: grpc.aio.ServicerContext) -> None:
        """Tell the state of a service and each change, until watches are to end."""
        told = None
        while True:
            changed, status = self._changed, self._statuses.get(service, _UNKNOWN)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            elif self._last_words_s is not None:
                return
            else:
                await changed.wait()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _read(self, context: grpc.aio.ServicerContext) -> health_pb2.HealthCheckRequest:
        request = grpc.aio.EOF
        try:
            async with asyncio.timeout(self._request_timeout_s):
                request = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no request came")
        return NO_REQUEST if request is grpc.aio.EOF else request


class HealthReporter:
    """Tells probes and clients which services serve. Until told otherwise, none does.

    It is told on the event loop.
    """

    def __init__(self, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Say NOT_SERVING for the server as a whole.

        Args:
            request_timeout_s: a call whose request takes longer is ended; above 0.
        """
        self._servicer = _Servicer(request_timeout_s)
        self._threaded = ThreadedHealthServicer(request_timeout_s)
        self._services: set[str] = {""}
        self._is_shut_down = False
        self.set_not_serving()

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the handlers of the health service by path, for an asynchronous server."""
        named = _handlers(self._servicer)
        return {f"/{SERVICE_NAME}/{name}": handler for name, handler in named.items()}

    def threaded_handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return the same by name, for a server that has threads."""
        return _handlers(self._threaded)

    def set_serving(self, services: Iterable[str]) -> None:
        """Say SERVING for these full service names and for the server as a whole."""
        self._services.update(services)
        self._set(_SERVING)

    def set_not_serving(self) -> None:
        """Say NOT_SERVING for all services that were named so far."""
        self._set(_NOT_SERVING)

    def _set(self, status: Any) -> None:
        if self._is_shut_down:
            return
        for service in self._services:
            self._servicer.set(service, status)
            self._threaded.set(service, status)

    def shut_down(self) -> None:
        """Say NOT_SERVING for ever: the first step of a drain, before calls are refused."""
        self.set_not_serving()
        self._is_shut_down = True

    def end_watches(self) -> None:
        """End all Watch calls beside other services with OK, when they have told the state.

        Else each holds up a drain: call it right before `server.stop(grace)`.
        """
        self._servicer.end_watches()

    def end_threaded_watches(self) -> None:
        """The same for a server that has threads."""
        self._threaded.end_watches()


class HealthServer:
    """A plaintext gRPC server that serves health checking and nothing else.

    It has threads and no loop, so that it neither waits for the event loop nor holds it up:
    probes are answered while that is busy, and whoever reaches it needs no certificate.
    """

    def __init__(self, address: Address, reporter: HealthReporter) -> None:
        """Take the address to listen on and the state to tell."""
        self._address = address
        self._reporter = reporter
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="health"),
            options=server_options(_BOUNDS),
        )
        handlers = grpc.method_handlers_generic_handler(SERVICE_NAME, reporter.threaded_handlers())
        self._server.add_generic_rpc_handlers((handlers,))

    async def start(self) -> Address:
        """Listen and serve; return the address with its port.

        Raises:
            OperatorError: the address cannot be had.
        """
        bound = bind_plaintext(self._server, self._address, flag="--health-listen")
        self._server.start()
        return bound

    async def stop(self) -> None:
        """Stop as soon as those who watch know the last state: it is the last to go."""
        self._reporter.end_threaded_watches()
        await asyncio.to_thread(self._server.stop(LAST_WORDS_S).wait)


def _handlers(servicer: Any) -> dict[str, grpc.RpcMethodHandler]:
    kinds = {
        "Check": grpc.stream_unary_rpc_method_handler,
        "Watch": grpc.stream_stream_rpc_method_handler,
    }
    return {
        name: make(
            getattr(servicer, name),
            _request_of,
            health_pb2.HealthCheckResponse.SerializeToString,
        )
        for name, make in kinds.items()
    }


def _request_of(content: bytes) -> health_pb2.HealthCheckRequest:
    """Read a request; what is none asks for a service that is not there.

    Core would log an error for each, and tell the caller the text of the exception.
    """
    try:
        return health_pb2.HealthCheckRequest.FromString(content)
    except DecodeError:
        return NO_REQUEST
