"""Prometheus, on what the release renders for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest
from tests.chart.helm import of_kind, only
from tests.cluster.prometheus import Prometheus, endpoint
from tests.cluster.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster

SCRAPES_LIMIT_S = 100  # two scrapes of 30 s, and the time until the first
RULES_LIMIT_S = 30
BUILD_INFO = "kotaemon_grpc_build_info"


@pytest.fixture(scope="module")
def prometheus(
    cluster: Cluster, manifests: list[Manifest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    _, port = endpoint(manifests)
    targets = {pod: cluster.address(pod, port) for pod in cluster.pods()}
    running = Prometheus(tmp_path_factory.mktemp("prometheus"), manifests, targets)
    try:
        # Rates are of two scrapes, and with values alone can a rule go wrong.
        every = f"count(count_over_time({BUILD_INFO}[10m]) >= 2) == {len(targets)}"
        until("two scrapes", lambda: running.ask("query", query=every)["result"], SCRAPES_LIMIT_S)
        yield running
    finally:
        running.close()


def test_every_pod_is_scraped(prometheus: Prometheus, cluster: Cluster) -> None:
    targets = prometheus.ask("targets")["activeTargets"]
    assert {each["labels"]["pod"] for each in targets} == set(cluster.pods())
    assert [(each["health"], each["lastError"]) for each in targets] == [("up", "")] * len(targets)


def test_every_rule_is_loaded_and_none_is_in_error(
    prometheus: Prometheus, manifests: list[Manifest]
) -> None:
    rendered = {
        rule.get("alert") or rule["record"]
        for group in only(manifests, "PrometheusRule")["spec"]["groups"]
        for rule in group["rules"]
    }

    def look() -> list[dict[str, str]]:
        rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in rules) else rules

    rules = until("rules have been looked at", look, RULES_LIMIT_S)
    assert {rule["name"] for rule in rules} == rendered
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    (down,) = [rule for rule in rules if rule["name"] == "KotaemonGrpcDown"]
    assert down["state"] == "inactive"


def test_every_query_of_the_dashboard_is_answered(
    prometheus: Prometheus, manifests: list[Manifest], cluster: Cluster
) -> None:
    (board,) = [
        json.loads(each["data"]["kotaemon-grpc.json"])
        for each in of_kind(manifests, "ConfigMap")
        if "kotaemon-grpc.json" in each["data"]
    ]
    queries = [
        target["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*")
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(queries) > 20
    answers = {}
    for query in queries:
        try:
            answers[query] = prometheus.ask("query", query=query.replace("$job", ".*"))["result"]
        except HTTPError as refusal:
            pytest.fail(f"{query}: {refusal.read().decode()}")
    (pods,) = next(answer for query, answer in answers.items() if f"count({BUILD_INFO}" in query)
    assert int(pods["value"][1]) == len(cluster.pods())
    assert sum(1 for answer in answers.values() if answer) > len(answers) / 2
