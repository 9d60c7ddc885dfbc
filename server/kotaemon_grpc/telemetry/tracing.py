"""Which calls are traced.

Whether a call is sampled is decided before anything else is made for it: one that
is not costs a random number, a look at its metadata and a context variable.
Nothing here imports OpenTelemetry; what exports spans is handed in.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from kotaemon_grpc.telemetry.spans import CURRENT, Kind, Span, new_span_id
from kotaemon_grpc.telemetry.trace_context import TraceContext, parse
from kotaemon_grpc.wire.headers import TRACEPARENT, TRACESTATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kotaemon_grpc.telemetry.spans import Sink, Value

_TRACE_ID_BITS = 128
_RANDOM_BITS = 64  # the part of a trace id that OpenTelemetry's TraceIdRatioBased looks at
_RANDOM_MASK = 2**_RANDOM_BITS - 1


class Tracing:
    """Begins the spans of calls; `spans.span` those of their parts."""

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        sample_ratio: float = 0.1,
        follow_parent: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Set up tracing.

        Args:
            sink: where spans go. With None no call is sampled; each still has a trace
                id, and the trace context of its caller goes on to whom it calls.
            sample_ratio: how many calls are sampled, from 0.0 to 1.0. The trace id
                decides, so that all servers with the same ratio choose the same traces.
            follow_parent: the caller's decision holds where there is one.
            clock: nanoseconds of Unix time.
        """
        self._sink = sink
        self._follow_parent = follow_parent
        self._clock = clock
        self._bound = round(sample_ratio * 2**_RANDOM_BITS)

    def start_call(
        self, name: str, attributes: Mapping[str, Value], metadata: Mapping[str, str | bytes]
    ) -> tuple[str, Span | None]:
        """Begin a call, in the task that serves it.

        Args:
            name: the full name of the method, as `kotaemon.v2.AgentService/AskQuestion`.
            attributes: what is the same for all calls of the method.
            metadata: the call's, with keys in lower case.

        Returns:
            The trace id, and the span if the call is sampled.
        """
        given = metadata.get(TRACEPARENT)
        if given is not None:
            parent = parse(given, metadata.get(TRACESTATE, ""))
            if parent is not None:
                return self._continue(parent, name, attributes)
        number = random.getrandbits(_TRACE_ID_BITS) or 1
        trace_id = f"{number:032x}"
        sink = self._sink
        if sink is None or number & _RANDOM_MASK >= self._bound:
            CURRENT.set(trace_id)
            return trace_id, None
        context = TraceContext(trace_id, new_span_id(), sampled=True)
        return trace_id, self._begin(sink, name, attributes, context)

    def _continue(
        self, parent: TraceContext, name: str, attributes: Mapping[str, Value]
    ) -> tuple[str, Span | None]:
        sink, trace_id = self._sink, parent.trace_id
        sampled = (
            parent.sampled
            if self._follow_parent
            else int(trace_id, 16) & _RANDOM_MASK < self._bound
        )
        if sink is not None and sampled:
            context = TraceContext(trace_id, new_span_id(), sampled=True, state=parent.state)
            return trace_id, self._begin(sink, name, attributes, context, parent.span_id)
        if sink is not None and parent.sampled:
            # Who changes the flag gives a new id (section 3.4); else it goes on as it came.
            parent = TraceContext(trace_id, new_span_id(), sampled=False, state=parent.state)
        CURRENT.set(parent)
        return trace_id, None

    def _begin(
        self,
        sink: Sink,
        name: str,
        attributes: Mapping[str, Value],
        context: TraceContext,
        parent_id: str = "",
    ) -> Span:
        span = Span(
            name,
            context,
            sink,
            parent_id=parent_id,
            kind=Kind.SERVER,
            attributes=attributes,
            clock=self._clock,
        )
        CURRENT.set(span)
        return span
