"""A trace for each call, and a span for those that are sampled.

The conventions of OpenTelemetry for gRPC servers (version 1.44.0) say what the
span is called and when it is an error. Messages make no events, so only the start
and the end of a call are watched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.telemetry import attributes

if TYPE_CHECKING:
    import grpc

    from kotaemon_grpc.pipeline.call import Call, Method
    from kotaemon_grpc.telemetry.tracing import Tracing


class CallTracing:
    """The stage. It is the first one, so that all others are inside of the span."""

    def __init__(self, tracing: Tracing) -> None:
        """Take what begins spans."""
        self._tracing = tracing

    def observer(self, method: Method) -> _MethodTracing:
        """Bind what is the same for every call of a method."""
        return _MethodTracing(self._tracing, f"{method.service}/{method.name}")


class _MethodTracing:
    def __init__(self, tracing: Tracing, name: str) -> None:
        self._start_call = tracing.start_call
        self._name = name
        self._attributes = {
            attributes.RPC_SYSTEM_NAME: attributes.RPC_GRPC,
            attributes.RPC_METHOD: name,
        }

    def on_start(self, call: Call) -> None:
        call.trace_id, call.span = self._start_call(self._name, self._attributes, call.metadata)

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        span = call.span
        if span is None:
            return
        span.set(attributes.RPC_STATUS_CODE, code.name)
        if call.reason:
            span.set(attributes.REASON, str(call.reason))
        if code.name in attributes.RPC_ERRORS:
            span.fail(code.name)
            if isinstance(call.error, Exception):
                span.saw(call.error)
        span.end()
