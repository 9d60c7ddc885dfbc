"""The dashboard's queries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.chart.helm import of_kind
from tests.chart.metrics import METRICS, Series, check_samples, metrics_of, promtool

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm

ASKED = 'grpc_server_handled_total{grpc_service="a.Asking", grpc_method="Ask", grpc_code="%s"}'


def dashboard(helm: Helm) -> dict[str, Any]:
    manifests = helm.render({"dashboard": {"enabled": True}})
    (found,) = [
        each for each in of_kind(manifests, "ConfigMap") if "kotaemon-grpc.json" in each["data"]
    ]
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(found["data"]["kotaemon-grpc.json"])


def queries(board: dict[str, Any]) -> list[str]:
    of_panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    of_variables = [
        each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"
    ]
    return of_panels + of_variables


def query_of(helm: Helm, title: str) -> str:
    """The query of a panel, as Grafana sends it."""
    (panel,) = [each for each in dashboard(helm)["panels"] if each["title"] == title]
    (target,) = panel["targets"]
    query = target["expr"].replace("$__rate_interval", "5m")
    return query.replace("$namespace", ".*").replace("$job", ".*")


@pytest.mark.parametrize(
    ("series", "share"),
    [
        ([(ASKED % "OK", "0+60x20")], 0),
        ([(ASKED % "OK", "0+60x20"), (ASKED % "INTERNAL", "0x20")], 0),
        ([(ASKED % "OK", "0+45x20"), (ASKED % "INTERNAL", "0+15x20")], 0.25),
        ([(ASKED % "OK", "0+45x20"), (ASKED % "NOT_FOUND", "0+15x20")], 0),
        ([(ASKED % "OK", "60x20"), (ASKED % "INTERNAL", "6x20")], 0),
    ],
    ids=["no fault yet", "no fault", "faults", "faults of the caller", "no call"],
)
def test_share_of_faults_is_a_number(
    helm_4: Helm, tools: Path, tmp_path: Path, series: Series, share: float
) -> None:
    expected = {query_of(helm_4, "Faults"): [{"labels": "{}", "value": share}]}
    check_samples(tools, tmp_path, series, when="15m", expected=expected)


def test_calls_that_failed_are_shown_by_code_and_method(
    helm_4: Helm, tools: Path, tmp_path: Path
) -> None:
    series = [
        (ASKED % "OK", "0+60x20"),
        (ASKED % "INTERNAL", "0+6x20"),
        (ASKED % "UNKNOWN", "0x20"),
    ]
    labels = '{grpc_code="INTERNAL", grpc_service="a.Asking", grpc_method="Ask"}'
    query = query_of(helm_4, "Calls that failed, by code and method")
    expected = {query: [{"labels": labels, "value": 0.1}]}
    check_samples(tools, tmp_path, series, when="15m", expected=expected)


def test_dashboard_asks_for_metrics_that_exist_and_for_all_of_them(helm_4: Helm) -> None:
    asked = set().union(*map(metrics_of, queries(dashboard(helm_4))))
    assert asked <= METRICS
    shown = {name.removesuffix("_total").removesuffix("_bucket") for name in asked}
    every = {
        value
        for key, value in vars(names).items()
        if key.isupper()
        and isinstance(value, str)
        and value.startswith(("kotaemon_grpc_", "grpc_server_"))
    }
    assert shown == every


def test_dashboard_has_queries_that_prometheus_can_read(
    helm_4: Helm, tools: Path, tmp_path: Path
) -> None:
    board = dashboard(helm_4)
    expressions = [
        target["expr"].replace("$__rate_interval", "5m")
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]
    assert len(expressions) > 20
    rules = [{"record": f"panel:{i}", "expr": text} for i, text in enumerate(expressions)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool(tools, "check", "rules", path)


def test_dashboard_has_panels_that_do_not_overlap(helm_4: Helm) -> None:
    taken: set[tuple[int, int]] = set()
    board = dashboard(helm_4)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells
