"""Counts and times every call, and why callers were turned away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from kotaemon_grpc.pipeline.call import Call, Method
    from kotaemon_grpc.telemetry.metrics import Metrics

_OK = grpc.StatusCode.OK


class CallMetrics:
    """The stage."""

    def __init__(self, metrics: Metrics) -> None:
        """Take where to count."""
        self._metrics = metrics

    def observer(self, method: Method) -> _MethodObserver:
        """Resolve the labels of a method."""
        if method.client_streaming or method.server_streaming:
            return _StreamObserver(self._metrics, method)
        return _UnaryObserver(self._metrics, method)


class _MethodObserver:
    def __init__(self, metrics: Metrics, method: Method) -> None:
        self._metrics = metrics
        self._counts = metrics.calls.for_method(method.type, method.service, method.name)

    def on_start(self, _call: Call) -> None:
        self._counts.started += 1

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        counts = self._counts
        if code is _OK:
            counts.ok += 1
        else:
            counts.fail(code.name)
            self._metrics.denied(call.reason)
        seconds = call.elapsed_s
        bucket = counts.took(seconds)
        if call.span is not None:
            self._metrics.calls.trace(counts, bucket, seconds, call.trace_id)


class _StreamObserver(_MethodObserver):
    """Counts messages as they come and go: a stream may last for hours."""

    def on_received(self, _call: Call) -> None:
        self._counts.received += 1

    def on_sent(self, _call: Call) -> None:
        self._counts.sent += 1


class _UnaryObserver(_MethodObserver):
    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        super().on_end(call, code)
        self._counts.received += call.received
        self._counts.sent += call.sent
