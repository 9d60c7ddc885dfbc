"""The thread that sends spans, and the queue before it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc

from kotaemon_grpc.telemetry import otlp_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kotaemon_grpc.telemetry.spans import Span

MAX_WAITING = 2048  # spans, about 2 MB; OTEL_BSP_MAX_QUEUE_SIZE's default

_MAX_BATCH = 512  # OTEL_BSP_MAX_EXPORT_BATCH_SIZE's default
_INTERVAL_S = 1.0  # how old a span may get here while the receiver takes them
_COMPLAINT_INTERVAL_S = 60.0
_LAST_WORDS_S = 1.0  # how long the end waits for a call that was cancelled
_MAX_DETAILS_CHARS = 200

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "1s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2,
                # OTLP specification, "Failures", without those that our side gives.
                "retryableStatusCodes": ["ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"],
            },
        }
    ]
}

_logger = logging.getLogger(__name__)


class OtlpExporter:
    """Takes spans on the event loop and sends them from a thread.

    A receiver that is slow, or not there, costs spans, never calls.

    Attributes:
        exported: how many spans the receiver took.
        dropped: how many found the queue full, or the server at its end.
        failed: how many were sent, and not taken.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        credentials: grpc.ChannelCredentials | None,
        headers: Sequence[tuple[str, str]],
        resource: Mapping[str, str],
        timeout_s: float,
        max_waiting: int = MAX_WAITING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the thread.

        Args:
            endpoint: the receiver's host and port.
            credentials: None for plain text.
            headers: the metadata of each export.
            resource: what the spans come from.
            timeout_s: the seconds that an export may take, with all its attempts.
            max_waiting: how many spans wait at most.
            clock: seconds that only grow.
        """
        self.exported = self.dropped = self.failed = 0
        self._endpoint = endpoint
        self._headers = tuple(headers)
        self._resource = resource
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._clock = clock
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._closes_at_s = math.inf
        self._closing = False
        self._complained_at_s = -math.inf
        options = (("grpc.service_config", json.dumps(_SERVICE_CONFIG)),)
        self._channel = (
            grpc.insecure_channel(endpoint, options)
            if credentials is None
            else grpc.secure_channel(endpoint, credentials, options)
        )
        self._export = self._channel.unary_unary(f"/{_SERVICE}/Export")
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self._thread.start()

    def offer(self, span: Span) -> None:
        """Take a span, or drop and count it. To be called by one thread only."""
        waiting = len(self._waiting)
        if self._closing or waiting >= self._max_waiting:
            self.dropped += 1
            return
        self._waiting.append(span)
        if waiting + 1 >= _MAX_BATCH and not self._wake.is_set():
            self._wake.set()

    async def shutdown(self, timeout_s: float) -> None:
        """Send what waits, and drop what is still there after so many seconds."""
        self._closes_at_s = self._clock() + timeout_s
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._join, timeout_s)
        while left := self._take():
            self.dropped += len(left)

    def _join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        self._channel.close()  # cancels an export that goes on
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(_INTERVAL_S)
            self._wake.clear()
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting:
            timeout_s = min(self._timeout_s, self._closes_at_s - self._clock())
            if timeout_s <= 0:
                break
            if spans := self._take():
                self._send(spans, timeout_s)

    def _take(self) -> list[Span]:
        """Take a batch. At the end both threads may: each span is taken by one of them."""
        spans: list[Span] = []
        with suppress(IndexError):
            while len(spans) < _MAX_BATCH:
                spans.append(self._waiting.popleft())
        return spans

    def _send(self, spans: Sequence[Span], timeout_s: float) -> None:
        try:
            response = self._export(
                otlp_encoding.request(spans, self._resource),
                timeout=timeout_s,
                metadata=self._headers,
            )
            rejected = otlp_encoding.rejected(response)
        except Exception as error:  # noqa: BLE001 - nothing may end the thread
            self._lost(len(spans), _problem(error))
        else:
            self.exported += len(spans) - rejected
            if rejected:
                self._lost(rejected, "the receiver rejected some")

    def _lost(self, count: int, problem: str) -> None:
        self.failed += count
        now_s = self._clock()
        if now_s - self._complained_at_s >= _COMPLAINT_INTERVAL_S:
            self._complained_at_s = now_s
            _logger.warning(
                "spans cannot be exported to %s: %s; %d lost so far, and %d dropped",
                self._endpoint,
                problem,
                self.failed,
                self.dropped,
            )


def _problem(error: Exception) -> str:
    """Say what went wrong, without words of the receiver: it knows the headers."""
    if not isinstance(error, grpc.RpcError):
        return type(error).__name__
    code = error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        # These are mostly gRPC's own: who cannot be reached, or is not trusted.
        return f"{code.name}, {error.details()}"[:_MAX_DETAILS_CHARS]
    return str(code.name)
