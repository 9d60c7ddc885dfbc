from __future__ import annotations

import datetime as dt
import math

import pytest
from prometheus_client import CollectorRegistry

from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.core.model import FinishReason
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


METHOD = {"grpc_type": "unary", "grpc_service": "a.B", "grpc_method": "C"}


def test_a_call_is_counted_under_the_names_that_dashboards_know(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    method = metrics.for_method(names.TYPE_UNARY, "a.B", "C")
    method.started.inc()
    method.received.inc()
    method.sent.inc(3)
    method.handling_seconds.observe(0.2)
    method.handled("NOT_FOUND").inc()
    method.handled("NOT_FOUND").inc()
    value = registry.get_sample_value
    assert value("grpc_server_started_total", METHOD) == 1
    assert value("grpc_server_msg_received_total", METHOD) == 1
    assert value("grpc_server_msg_sent_total", METHOD) == 3
    assert value("grpc_server_handling_seconds_count", METHOD) == 1
    assert value("grpc_server_handling_seconds_bucket", METHOD | {"le": "0.1"}) == 0
    assert value("grpc_server_handling_seconds_bucket", METHOD | {"le": "0.25"}) == 1
    assert value("grpc_server_handled_total", METHOD | {"grpc_code": "NOT_FOUND"}) == 2


def test_a_method_is_there_at_zero_before_its_first_call(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.for_method(names.TYPE_UNARY, "a.B", "C")
    assert registry.get_sample_value("grpc_server_started_total", METHOD) == 0
    assert registry.get_sample_value("grpc_server_handled_total", METHOD | {"grpc_code": "OK"}) == 0


def test_own_metrics(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.set_build_info("1.2.3")
    metrics.set_certificate_expiry("server.pem", dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    metrics.answered(FinishReason.NOTHING_FOUND)
    value = registry.get_sample_value
    assert value("kotaemon_grpc_build_info", {"version": "1.2.3"}) == 1
    assert (
        value("kotaemon_grpc_certificate_expiry_timestamp_seconds", {"file": "server.pem"})
        == 1893456000
    )
    assert value("kotaemon_grpc_answers_total", {"finish_reason": "nothing_found"}) == 1
    assert value("kotaemon_grpc_answers_total", {"finish_reason": "answered"}) == 0


def test_the_store_is_asked_at_each_scrape(registry: CollectorRegistry, metrics: Metrics) -> None:
    counts = {"documents": 1}
    metrics.observe_store(
        documents=lambda: counts["documents"], passages=lambda: 20, index_lag=lambda: 3
    )
    assert registry.get_sample_value("kotaemon_grpc_documents") == 1
    counts["documents"] = 2
    assert registry.get_sample_value("kotaemon_grpc_documents") == 2
    assert registry.get_sample_value("kotaemon_grpc_passages") == 20
    assert registry.get_sample_value("kotaemon_grpc_index_lag") == 3


def test_a_figure_that_cannot_be_had_leaves_the_others(registry: CollectorRegistry) -> None:
    def broken() -> float:
        raise StorageUnavailable

    metrics = Metrics(registry)
    metrics.observe_store(documents=broken, passages=lambda: 20, index_lag=lambda: 3)
    assert math.isnan(registry.get_sample_value("kotaemon_grpc_documents"))
    assert registry.get_sample_value("kotaemon_grpc_passages") == 20


def test_lost_log_lines_are_counted(registry: CollectorRegistry) -> None:
    Metrics(registry).observe_log(lambda: 7)
    assert registry.get_sample_value("kotaemon_grpc_log_lines_dropped_total") == 7
