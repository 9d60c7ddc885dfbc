"""The dashboard's queries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import yaml
from tests.chart.helm import of_kind
from tests.chart.metrics import METRICS, metrics_of, promtool

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm


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
