from __future__ import annotations

from dataclasses import replace
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import exposition as openmetrics

from kotaemon_grpc.pipeline.call import Call, Method
from kotaemon_grpc.pipeline.call_metrics import CallMetrics
from kotaemon_grpc.telemetry.metrics import Metrics

METHOD = Method(
    "a.B", "C", client_streaming=True, server_streaming=True, request="a.R", read=bytes, write=bytes
)
LABELS = {"grpc_type": "bidi_stream", "grpc_service": "a.B", "grpc_method": "C"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class ServicerContext:
    """As much of a call's context as is asked at its start."""

    def invocation_metadata(self) -> None:
        return None


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry) -> Any:
    return CallMetrics(Metrics(registry)).observer(METHOD)


async def test_a_call_and_its_messages_are_counted_as_they_come(
    registry: CollectorRegistry, observer: Any
) -> None:
    def count(name: str, **more: str) -> float | None:
        return registry.get_sample_value(f"grpc_server_{name}", {**LABELS, **more})

    call = Call(METHOD, ServicerContext())
    observer.on_start(call)
    assert count("started_total") == 1
    observer.on_received(call)
    observer.on_sent(call)
    observer.on_sent(call)
    assert (count("msg_received_total"), count("msg_sent_total")) == (1, 2)
    assert count("handled_total", grpc_code="OK") == 0
    call.elapsed_s = 3
    observer.on_end(call, grpc.StatusCode.OK)
    assert count("handled_total", grpc_code="OK") == 1
    assert count("handling_seconds_bucket", le="2.5") == 0
    assert count("handling_seconds_count") == 1


async def test_a_failure_is_counted_by_its_code(registry: CollectorRegistry, observer: Any) -> None:
    for _ in range(2):
        observer.on_end(Call(METHOD, ServicerContext()), grpc.StatusCode.CANCELLED)
    codes = {
        sample.labels["grpc_code"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "grpc_server_handled_total"
    }
    assert {code: count for code, count in codes.items() if count} == {"CANCELLED": 2}


async def test_a_call_that_is_denied_is_counted_by_its_reason(
    registry: CollectorRegistry, observer: Any
) -> None:
    call = Call(METHOD, ServicerContext())
    call.reason = "METHOD_NOT_ALLOWED"
    observer.on_end(call, grpc.StatusCode.PERMISSION_DENIED)
    labels = {"reason": "METHOD_NOT_ALLOWED"}
    assert registry.get_sample_value("kotaemon_grpc_calls_denied_total", labels) == 1


@pytest.mark.parametrize("is_sampled", [True, False])
async def test_a_call_that_is_sampled_gives_its_trace_as_an_example(
    registry: CollectorRegistry, observer: Any, *, is_sampled: bool
) -> None:
    call = Call(METHOD, ServicerContext())
    call.trace_id = TRACE_ID
    call.span = object() if is_sampled else None
    observer.on_end(call, grpc.StatusCode.OK)
    assert (TRACE_ID in openmetrics.generate_latest(registry).decode()) == is_sampled


async def test_the_messages_of_a_unary_call_are_counted_at_its_end(
    registry: CollectorRegistry,
) -> None:
    method = replace(METHOD, client_streaming=False, server_streaming=False)
    call = Call(method, ServicerContext())
    observer: Any = CallMetrics(Metrics(registry)).observer(method)
    observer.on_start(call)
    call.received, call.sent = 1, 1
    observer.on_end(call, grpc.StatusCode.OK)
    labels = {**LABELS, "grpc_type": "unary"}
    assert registry.get_sample_value("grpc_server_msg_received_total", labels) == 1
    assert registry.get_sample_value("grpc_server_msg_sent_total", labels) == 1
