"""Counts and times every call, under the names of grpc-ecosystem."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from kotaemon_grpc.pipeline.seam import Call, Method
    from kotaemon_grpc.telemetry.metrics import MethodMetrics, Metrics


class CallMetrics:
    """The stage."""

    def __init__(self, metrics: Metrics) -> None:
        """Take where to count."""
        self._metrics = metrics

    def observer(self, method: Method) -> _MethodObserver:
        """Resolve the labels of a method."""
        return _MethodObserver(self._metrics.for_method(method.type, method.service, method.name))


class _MethodObserver:
    def __init__(self, metrics: MethodMetrics) -> None:
        self._metrics = metrics

    def on_start(self, _call: Call) -> None:
        self._metrics.started.inc()

    def on_received(self, _call: Call) -> None:
        self._metrics.received.inc()

    def on_sent(self, _call: Call) -> None:
        self._metrics.sent.inc()

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        self._metrics.handled(code.name).inc()
        self._metrics.handling_seconds.observe(call.elapsed_s)
