from __future__ import annotations

import datetime as dt
import math
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.core.model import FinishReason
from kotaemon_grpc.engines.admission import ShedReason
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.wire.reasons import Reason

HOSTILE = 'x"} 1\nevil{a="b'


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, clock=lambda: 1_700_000_000.0)


def test_own_metrics(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.set_build_info("1.2.3")
    metrics.set_certificate_expiry("server.pem", dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    metrics.count_answer(FinishReason.NOTHING_FOUND)
    metrics.observe_retrieval(0.02)
    metrics.observe_loop_lag(0.3)
    value = registry.get_sample_value
    assert value("kotaemon_grpc_build_info", {"version": "1.2.3"}) == 1
    assert (
        value("kotaemon_grpc_certificate_expiry_timestamp_seconds", {"file": "server.pem"})
        == 1893456000
    )
    assert value("kotaemon_grpc_answers_total", {"finish_reason": "nothing_found"}) == 1
    assert value("kotaemon_grpc_answers_total", {"finish_reason": "answered"}) == 0
    assert value("kotaemon_grpc_retrieval_seconds_bucket", {"le": "0.01"}) == 0
    assert value("kotaemon_grpc_retrieval_seconds_bucket", {"le": "0.025"}) == 1
    assert value("kotaemon_grpc_event_loop_lag_seconds_sum") == 0.3


def test_an_engine_is_measured_under_its_name(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    load = {"in flight": 2, "waiting": 3}
    engine = metrics.for_engine("local")
    engine.ask_load(lambda: load["in flight"], lambda: load["waiting"])
    metrics.for_engine("other").count_tokens(100, 100)
    engine.count_tokens(7, 9)
    engine.count_tokens(1, 1)
    engine.observe_first_token(0.1)
    engine.observe_answer(0.25)
    engine.observe_answer(0.25)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"engine": "local", **labels})

    assert value("kotaemon_grpc_tokens_total", direction="input") == 8
    assert value("kotaemon_grpc_tokens_total", direction="output") == 10
    assert value("kotaemon_grpc_first_token_seconds_count") == 1
    assert value("kotaemon_grpc_engine_seconds_sum") == 0.5
    assert value("kotaemon_grpc_engine_calls_in_flight") == 2
    load["waiting"] = 4
    assert value("kotaemon_grpc_engine_calls_waiting") == 4


def test_refusals_for_want_of_room_are_counted_by_reason(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    metrics.count_shed(names.SHED_QUEUE_FULL)
    shed = {
        reason: registry.get_sample_value("kotaemon_grpc_calls_shed_total", {"reason": reason})
        for reason in ("queue_full", "would_expire", "timed_out", "rate_limited")
    }
    assert shed == {"queue_full": 1, "would_expire": 0, "timed_out": 0, "rate_limited": 0}


@pytest.mark.parametrize("reason", get_args(ShedReason))
def test_every_reason_of_admission_can_be_counted(
    registry: CollectorRegistry, metrics: Metrics, reason: str
) -> None:
    metrics.count_shed(reason)
    assert registry.get_sample_value("kotaemon_grpc_calls_shed_total", {"reason": reason}) == 1


def test_only_those_turned_away_for_who_they_are_are_denied(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    for reason in (*Reason, "", HOSTILE):
        metrics.count_denied(reason)
    denied = {
        sample.labels["reason"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "kotaemon_grpc_calls_denied_total"
    }
    prefixes = ("CREDENTIALS_", "TLS_", "METHOD_NOT_ALLOWED", "COLLECTION_NOT_ALLOWED")
    turned_away = {reason for reason in Reason if reason.startswith(prefixes)}
    turned_away.remove(Reason.CREDENTIALS_SOURCE_UNAVAILABLE)  # that is no fault of theirs
    assert denied == {reason.value: 1 for reason in turned_away}


@pytest.mark.parametrize(
    ("seen", "counted"),
    [
        (("TLSv1.3", "X25519MLKEM768"), ("TLSv1.3", "X25519MLKEM768")),
        (("TLSv1.2", "P-256"), ("TLSv1.2", "P-256")),
        (("", ""), ("none", "none")),
        ((HOSTILE, HOSTILE), ("other", "other")),
    ],
)
def test_tls_is_counted_by_what_is_known_of_it(
    registry: CollectorRegistry,
    metrics: Metrics,
    seen: tuple[str, str],
    counted: tuple[str, str],
) -> None:
    metrics.count_verified(*seen)
    labels = dict(zip(("tls_version", "group"), counted, strict=True))
    assert registry.get_sample_value("kotaemon_grpc_credentials_verified_total", labels) == 1


def test_a_reload_that_fails_is_counted_and_one_that_succeeds_is_dated(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    note = metrics.on_reload(names.RELOAD_JWKS)
    labels = {"what": "jwks"}
    last = "kotaemon_grpc_last_reload_timestamp_seconds"
    assert registry.get_sample_value("kotaemon_grpc_reload_failures_total", labels) == 0
    note(succeeded=False)
    assert registry.get_sample_value("kotaemon_grpc_reload_failures_total", labels) == 1
    assert registry.get_sample_value(last, labels) == 0
    note(succeeded=True)
    assert registry.get_sample_value("kotaemon_grpc_reload_failures_total", labels) == 1
    assert registry.get_sample_value(last, labels) == 1_700_000_000


def test_the_store_is_asked_at_each_scrape(registry: CollectorRegistry, metrics: Metrics) -> None:
    counts = {"documents": 1}
    metrics.ask_store(
        documents=lambda: counts["documents"], passages=lambda: 20, index_lag=lambda: 3
    )
    metrics.ask_index_size(lambda: 4096)
    metrics.ask_requests(lambda: 5)
    assert registry.get_sample_value("kotaemon_grpc_documents") == 1
    counts["documents"] = 2
    assert registry.get_sample_value("kotaemon_grpc_documents") == 2
    assert registry.get_sample_value("kotaemon_grpc_passages") == 20
    assert registry.get_sample_value("kotaemon_grpc_index_lag") == 3
    assert registry.get_sample_value("kotaemon_grpc_index_size_bytes") == 4096
    assert registry.get_sample_value("kotaemon_grpc_requests_remembered") == 5


@pytest.mark.parametrize("error", [StorageUnavailable, ZeroDivisionError])
def test_a_figure_that_cannot_be_had_leaves_the_others(
    registry: CollectorRegistry, metrics: Metrics, error: type[Exception]
) -> None:
    def broken() -> float:
        raise error

    metrics.ask_store(documents=broken, passages=lambda: 20, index_lag=lambda: 3)
    assert math.isnan(registry.get_sample_value("kotaemon_grpc_documents"))
    assert registry.get_sample_value("kotaemon_grpc_passages") == 20


def test_a_figure_that_nobody_keeps_has_no_value(
    registry: CollectorRegistry, metrics: Metrics
) -> None:
    assert metrics.registry is registry
    assert registry.get_sample_value("kotaemon_grpc_spans_dropped_total") is None


def test_what_was_lost_is_counted(registry: CollectorRegistry, metrics: Metrics) -> None:
    metrics.ask_log(lambda: {"audit": 1, "other": 7})
    metrics.ask_traces(lambda: 8)
    for kind, count in {"audit": 1, "other": 7}.items():
        name, labels = "kotaemon_grpc_log_lines_dropped_total", {"kind": kind}
        assert registry.get_sample_value(name, labels) == count
    assert registry.get_sample_value("kotaemon_grpc_spans_dropped_total") == 8
