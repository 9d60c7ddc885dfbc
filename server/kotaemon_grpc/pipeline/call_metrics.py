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
        return _MethodObserver(self._metrics, method)


class _MethodObserver:
    def __init__(self, metrics: Metrics, method: Method) -> None:
        self._metrics = metrics
        self._counts = metrics.calls.for_method(method.type, method.service, method.name)
        self._is_stream = method.client_streaming or method.server_streaming
        if self._is_stream:  # which may last for hours: its messages count as they come and go
            self.on_received = self._count_received
            self.on_sent = self._count_sent

    def on_start(self, _call: Call) -> None:
        self._counts.started += 1

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        counts = self._counts
        if code is _OK:
            counts.ok += 1
        else:
            counts.fail(code.name)
            self._metrics.count_denied(call.reason)
        if not self._is_stream:
            counts.received += call.received
            counts.sent += call.sent
        bucket = counts.took(call.elapsed_s)
        if call.span is not None:
            self._metrics.calls.keep_exemplar(counts, bucket, call.elapsed_s, call.trace_id)

    def _count_received(self, _call: Call) -> None:
        self._counts.received += 1

    def _count_sent(self, _call: Call) -> None:
        self._counts.sent += 1
