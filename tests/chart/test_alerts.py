"""Alerts, tried with `promtool test rules` on what is rendered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from tests.chart.alert_cases import CASES, JOB
from tests.chart.helm import CHART, ROOT, Refused, only
from tests.chart.metrics import METRICS, check_samples, metrics_of, promtool
from tests.chart.value_space import SCHEMA

from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.engine_metrics import EngineFamilies

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm


def rendered_rules(helm: Helm, **values: Any) -> dict[str, Any]:
    manifests = helm.render({"prometheusRule": {"enabled": True, **values}})
    return only(manifests, "PrometheusRule")["spec"]


def alerts(rules: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        rule["alert"]: rule
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def check_fires(
    tools: Path, tmp_path: Path, rules: dict[str, Any], case: str, expected: list[str]
) -> None:
    series, when, _ = CASES[case]
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected]
    query = 'count by (alertname) (ALERTS{alertstate="firing"})'
    check_samples(tools, tmp_path, series, when=when, expected={query: firing}, rules=rules)


@pytest.mark.parametrize("case", CASES)
def test_alerts_fire_when_they_should(helm_4: Helm, tools: Path, tmp_path: Path, case: str) -> None:
    check_fires(tools, tmp_path, rendered_rules(helm_4), case, CASES[case][2])


def test_share_of_faults_is_nothing_while_there_are_none(
    helm_4: Helm, tools: Path, tmp_path: Path
) -> None:
    query = "max(kotaemon_grpc:errors:ratio_rate5m)"
    none = {query: [{"labels": "{}", "value": 0}]}
    series, when, _ = CASES["at rest"]
    check_samples(tools, tmp_path, series, when=when, expected=none, rules=rendered_rules(helm_4))


def test_every_alert_is_seen_firing(helm_4: Helm) -> None:
    assert set(alerts(rendered_rules(helm_4))) == {
        name for case in CASES.values() for name in case[2]
    }


def test_budget_of_the_values_counts(helm_4: Helm, tools: Path, tmp_path: Path) -> None:
    rules = rendered_rules(helm_4, errorBudget=0.005)
    case = "one in fifty calls fails for an hour"
    check_fires(tools, tmp_path, rules, case, [])
    assert "* 0.005)" in alerts(rules)["KotaemonGrpcErrorBudgetBurnsFast"]["expr"]


def test_least_faults_of_the_values_count(helm_4: Helm, tools: Path, tmp_path: Path) -> None:
    for case, least, firing in (
        ("five faults in an hour, and few calls", 4, ["KotaemonGrpcErrorBudgetBurnsFast"]),
        ("six faults in an hour, and few calls", 6, []),
        ("five faults in hours, and few calls", 0, ["KotaemonGrpcErrorBudgetBurnsSlowly"]),
        ("six faults in hours, and few calls", 6, []),
    ):
        check_fires(tools, tmp_path, rendered_rules(helm_4, leastFaults=least), case, firing)


def test_slow_seconds_of_the_values_count(helm_4: Helm, tools: Path, tmp_path: Path) -> None:
    for case, seconds, firing in (
        ("answers begin after ten seconds", 10, []),
        ("answers begin after two and a half seconds", 1, ["KotaemonGrpcSlow"]),
    ):
        check_fires(tools, tmp_path, rendered_rules(helm_4, slowSeconds=seconds), case, firing)


def test_slow_seconds_are_edges_of_the_histogram(helm_4: Helm) -> None:
    registry = CollectorRegistry()
    EngineFamilies(registry).first_token.labels("extractive")
    edges = [
        float(sample.labels["le"])
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"{names.FIRST_TOKEN_SECONDS}_bucket"
    ]
    # What is above the last edge counts as this edge, which is never more than itself.
    assert SCHEMA["properties"]["prometheusRule"]["properties"]["slowSeconds"]["enum"] == edges[:-2]
    with pytest.raises(Refused, match=r"slowSeconds.* one of 0\.005, .* 5, 10"):
        rendered_rules(helm_4, slowSeconds=7)


def test_limit_of_the_settings_counts(helm_4: Helm, tools: Path, tmp_path: Path) -> None:
    for limit, firing in ((80_000, ["KotaemonGrpcRequestsForgotten"]), (10_000_000, [])):
        values = {"config": {"requests": {"max_count": limit}}, "prometheusRule": {"enabled": True}}
        rules = only(helm_4.render(values), "PrometheusRule")["spec"]
        check_fires(tools, tmp_path, rules, "there is room for more requests", firing)


def test_alerts_can_be_left_out_labelled_and_added(
    helm_4: Helm, tools: Path, tmp_path: Path
) -> None:
    rules = rendered_rules(
        helm_4,
        disabled=["KotaemonGrpcSlow"],
        alertLabels={"team": "agents", "severity": "page"},
        runbookURL="https://runbooks.example.org/#",
        extraRules=[{"alert": "Mine", "expr": "vector(1)"}],
    )
    found = alerts(rules)
    assert "KotaemonGrpcSlow" not in found
    assert found["Mine"] == {"alert": "Mine", "expr": "vector(1)"}
    down = found["KotaemonGrpcDown"]
    assert down["labels"] == {"team": "agents", "severity": "page"}
    assert down["annotations"]["runbook_url"] == "https://runbooks.example.org/#kotaemongrpcdown"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    promtool(tools, "check", "rules", tmp_path / "rules.yaml")


def test_rule_file_stands_by_itself(tools: Path) -> None:
    promtool(tools, "check", "rules", CHART / "files" / "rules.yaml")


def test_rules_ask_for_this_release_alone(helm_4: Helm) -> None:
    series = re.compile(r"(?:kotaemon_grpc_|grpc_server_|kotaemon_grpc:)[\w:]+(\{[^}]*\})?")
    for group in rendered_rules(helm_4)["groups"]:
        for rule in group["rules"]:
            selectors = series.findall(rule["expr"])
            assert selectors
            assert all(each.startswith("{" + JOB) for each in selectors), rule


def test_rules_ask_for_metrics_that_exist(helm_4: Helm) -> None:
    for group in rendered_rules(helm_4)["groups"]:
        for rule in group["rules"]:
            assert metrics_of(rule["expr"]) <= METRICS


def test_every_alert_is_explained_in_the_guide(helm_4: Helm) -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    headings = {line.removeprefix("### ") for line in guide.splitlines() if line.startswith("### ")}
    assert set(alerts(rendered_rules(helm_4))) <= headings
