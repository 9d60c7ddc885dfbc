"""Health checking v1 for a server with threads, where no peer can hold up another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WATCHES = 4
"""Each takes a thread for as long as its peer likes; checks need others."""

REQUEST_TIMEOUT_S = 2.0
"""A request comes along with the head of its call; whoever holds it back is no prober."""

LAST_WORDS_S = 1.0
"""How long a peer may take over the last state that it is told, before its call is ended."""

NO_REQUEST = health_pb2.HealthCheckRequest(service="\0")
"""Stands for what is no request: it asks for a service that is not there."""

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class ThreadedHealthServicer:
    """Tells the states that `set` was given. A message is never sent under a lock.

    Its methods take a stream of requests, of which they read one: for a single request
    core itself waits, on a thread of the pool and for as long as the peer likes.
    """

    def __init__(self, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Start without any service.

        Args:
            request_timeout_s: a call whose request takes longer is cancelled; above 0.
        """
        self._request_timeout_s = request_timeout_s
        self._changed = threading.Condition()
        self._statuses: dict[str, Any] = {}
        self._watches = threading.Semaphore(MAX_WATCHES)
        self._is_ending = False

    def set(self, service: str, status: Any) -> None:
        """Set the state of a service; does not wait for anybody. Safe on any thread."""
        with self._changed:
            self._statuses[service] = status
            self._changed.notify_all()

    def end_watches(self) -> None:
        """End all `Watch` calls with OK when they have told the state of now."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def Check(  # noqa: N802 - the name in the protocol
        self, requests: Iterator[health_pb2.HealthCheckRequest], context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Tell the state of a service; NOT_FOUND if it was never set."""
        request = self._read(requests, context)
        status = self._statuses.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(  # noqa: N802 - the name in the protocol
        self, requests: Iterator[health_pb2.HealthCheckRequest], context: grpc.ServicerContext
    ) -> Iterator[health_pb2.HealthCheckResponse]:
        """Tell the state of a service, and each change; RESOURCE_EXHAUSTED above the most."""
        request = self._read(requests, context)
        if not self._watches.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches; use Check")
        try:
            context.add_callback(self._wake)
            told = None
            while context.is_active():
                with self._changed:
                    while self._status(request) == told and context.is_active():
                        if self._is_ending:
                            return
                        self._changed.wait()
                    status = self._status(request)
                if status != told:
                    told = status
                    yield health_pb2.HealthCheckResponse(status=status)
        finally:
            self._watches.release()

    def _read(
        self, requests: Iterator[health_pb2.HealthCheckRequest], context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckRequest:
        limit = threading.Timer(self._request_timeout_s, context.cancel)
        limit.daemon = True
        limit.start()
        try:
            return next(requests, NO_REQUEST)  # raises what core expects if it is cancelled
        finally:
            limit.cancel()

    def _status(self, request: health_pb2.HealthCheckRequest) -> Any:
        return self._statuses.get(request.service, _UNKNOWN)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
