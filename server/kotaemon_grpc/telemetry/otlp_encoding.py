"""Spans as OTLP has them; the only module that imports OpenTelemetry (its messages alone)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags, Status

from kotaemon_grpc.telemetry import attributes
from kotaemon_grpc.telemetry.spans import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kotaemon_grpc.telemetry.spans import Span, Value

_SCOPE = "kotaemon_grpc"
# Looking a constant of an enumeration up takes as long as half of a span.
_LOCAL_FLAGS = 0x01 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK  # sampled, parent known
_REMOTE_FLAGS = _LOCAL_FLAGS | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_KINDS = {kind: SpanMessage.SpanKind.ValueType(kind.value) for kind in Kind}
_ERROR = Status(code=Status.STATUS_CODE_ERROR)


def request(spans: Iterable[Span], resource: Mapping[str, str]) -> bytes:
    """Return the `ExportTraceServiceRequest`, serialised.

    Args:
        spans: what has ended.
        resource: what all of them come from, as `service.name`.
    """
    message = ExportTraceServiceRequest()
    of_resource = message.resource_spans.add()
    of_resource.resource.attributes.extend(_attributes(resource))
    of_scope = of_resource.scope_spans.add(schema_url=attributes.SCHEMA_URL)
    of_scope.scope.name = _SCOPE
    of_scope.spans.extend(_span(span) for span in spans)
    return message.SerializeToString()


def rejected(response: bytes) -> int:
    """Return how many spans of a request the receiver did not take."""
    return ExportTraceServiceResponse.FromString(response).partial_success.rejected_spans


def _span(span: Span) -> SpanMessage:
    is_remote = span.parent_id and span.kind is Kind.SERVER
    return SpanMessage(
        trace_id=bytes.fromhex(span.context.trace_id),
        span_id=bytes.fromhex(span.context.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        trace_state=span.context.state,
        flags=_REMOTE_FLAGS if is_remote else _LOCAL_FLAGS,
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_ns,
        end_time_unix_nano=span.end_ns,
        attributes=_attributes(span.attributes),
        events=[
            SpanMessage.Event(
                time_unix_nano=time_ns,
                name=attributes.EXCEPTION,
                attributes=_attributes({attributes.EXCEPTION_TYPE: error_type}),
            )
            for time_ns, error_type in span.events
        ],
        status=_ERROR if span.is_error else None,
    )


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [_attribute(key, value) for key, value in values.items()]


def _attribute(key: str, value: Value) -> KeyValue:
    attribute = KeyValue(key=key)
    match value:
        case str():
            attribute.value.string_value = value
        case bool():
            attribute.value.bool_value = value
        case int():
            attribute.value.int_value = value
        case float():
            attribute.value.double_value = value
        case _:
            for text in value:
                attribute.value.array_value.values.add(string_value=text)
    return attribute
