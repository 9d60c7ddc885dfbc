from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.call_counts import CallCounts

METHOD = {"grpc_type": "unary", "grpc_service": "a.B", "grpc_method": "C"}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def calls() -> CallCounts:
    return CallCounts(lambda: 1_700_000_000.5)


@pytest.fixture
def registry(calls: CallCounts) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(calls)
    return registry


def test_a_call_is_counted_under_the_names_that_dashboards_know(
    registry: CollectorRegistry, calls: CallCounts
) -> None:
    counts = calls.for_method(names.TYPE_UNARY, "a.B", "C")
    counts.started += 1
    counts.received += 1
    counts.sent += 3
    counts.took(0.2)
    counts.fail("NOT_FOUND")
    counts.fail("NOT_FOUND")
    value = registry.get_sample_value
    assert value("grpc_server_started_total", METHOD) == 1
    assert value("grpc_server_msg_received_total", METHOD) == 1
    assert value("grpc_server_msg_sent_total", METHOD) == 3
    assert value("grpc_server_handled_total", METHOD | {"grpc_code": "NOT_FOUND"}) == 2


def test_a_time_is_in_the_bucket_of_its_bound_and_all_above(
    registry: CollectorRegistry, calls: CallCounts
) -> None:
    counts = calls.for_method(names.TYPE_UNARY, "a.B", "C")
    for seconds in (0.0, 0.1, 0.11, 1000.0):
        counts.took(seconds)

    def bucket(bound: str) -> float | None:
        labels = METHOD | {"le": bound}
        return registry.get_sample_value("grpc_server_handling_seconds_bucket", labels)

    assert [bucket(bound) for bound in ("0.001", "0.05", "0.1", "0.25", "30.0", "+Inf")] == [
        1,
        1,
        2,
        3,
        3,
        4,
    ]
    assert registry.get_sample_value("grpc_server_handling_seconds_count", METHOD) == 4
    assert registry.get_sample_value("grpc_server_handling_seconds_sum", METHOD) == 1000.21


def test_a_method_is_there_at_zero_before_its_first_call(
    registry: CollectorRegistry, calls: CallCounts
) -> None:
    calls.for_method(names.TYPE_UNARY, "a.B", "C")
    assert registry.get_sample_value("grpc_server_started_total", METHOD) == 0
    assert registry.get_sample_value("grpc_server_handled_total", METHOD | {"grpc_code": "OK"}) == 0


def test_the_first_fault_of_a_method_is_a_growth(
    registry: CollectorRegistry, calls: CallCounts
) -> None:
    counts = calls.for_method(names.TYPE_UNARY, "a.B", "C")

    def handled() -> dict[str, float]:
        return {
            sample.labels["grpc_code"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "grpc_server_handled_total"
        }

    faults = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
    fresh = dict.fromkeys(("OK", *faults), 0)
    assert handled() == fresh
    for code in (*faults, "NOT_FOUND"):
        counts.fail(code)
    assert handled() == fresh | dict.fromkeys((*faults, "NOT_FOUND"), 1)


def test_a_method_of_several_listeners_is_counted_as_one(calls: CallCounts) -> None:
    assert calls.for_method("unary", "a.B", "C") is calls.for_method("unary", "a.B", "C")
    assert calls.for_method("unary", "a.B", "C") is not calls.for_method("unary", "a.B", "D")


def test_openmetrics_shows_the_trace_of_a_call_and_the_older_format_does_not(
    registry: CollectorRegistry, calls: CallCounts
) -> None:
    counts = calls.for_method(names.TYPE_UNARY, "a.B", "C")
    calls.keep_exemplar(counts, counts.took(0.2), 0.2, TRACE_ID)
    shown = [
        line
        for line in openmetrics.generate_latest(registry).decode().splitlines()
        if TRACE_ID in line
    ]
    (line,) = shown
    assert 'le="0.25"' in line
    assert line.endswith(f'}} 1.0 # {{trace_id="{TRACE_ID}"}} 0.2 1700000000.5')
    assert TRACE_ID not in generate_latest(registry).decode()
