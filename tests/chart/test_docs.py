"""What is derived is current, and what is written about the chart is true."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml
from tests.chart.helm import CHART, EXAMPLES, ROOT
from tests.chart.test_checkov import LEFT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm


def derive(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, root / "scripts" / "chart-docs", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_readme_and_schema_are_current() -> None:
    done = derive(ROOT, "--check")
    assert done.returncode == 0, done.stdout


def test_stale_readme_and_schema_are_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "helm", tmp_path / "helm")
    chart = tmp_path / "helm" / "kotaemon-grpc"
    (chart / "README.md").write_text("old")
    schema = json.loads((chart / "values.schema.json").read_text())
    del schema["$defs"]["config"]["properties"]["limits"]
    (chart / "values.schema.json").write_text(json.dumps(schema))
    done = derive(tmp_path, "--check")
    assert done.returncode == 1
    assert "README.md of the chart is stale" in done.stdout
    assert "values.schema.json of the chart is stale" in done.stdout
    assert derive(tmp_path).returncode == 0
    assert derive(tmp_path, "--check").returncode == 0


def test_value_without_a_comment_is_seen(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "helm", tmp_path / "helm")
    values = tmp_path / "helm" / "kotaemon-grpc" / "values.yaml"
    values.write_text(values.read_text() + "bare: 1\n")
    done = derive(tmp_path, "--check")
    assert done.returncode == 1
    assert "bare" in done.stderr


def test_every_value_is_in_the_schema_and_the_other_way() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    definitions = schema["$defs"]

    def compare(node: dict[str, Any], given: dict[str, Any], path: str) -> None:
        while "$ref" in node:
            node = definitions[node["$ref"].rpartition("/")[2]]
        if node.get("additionalProperties") is not False or "properties" not in node:
            return
        known = set(node["properties"])
        assert set(given) <= known, path
        if path != ".config" and given:
            optional = {"global", "enabled"} if path == "" else set()
            assert known - optional <= set(given), path
        for key, value in given.items():
            if isinstance(value, dict):
                compare(node["properties"][key], value, f"{path}.{key}")

    compare(schema, values, "")


def test_chart_is_described() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    annotations = chart["annotations"]
    assert annotations["artifacthub.io/license"] == "Apache-2.0"
    for key in ("artifacthub.io/images", "artifacthub.io/changes"):
        assert yaml.safe_load(annotations[key])
    package = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in package


def test_every_template_makes_one_kind_of_object() -> None:
    for path in (CHART / "templates").rglob("*.yaml"):
        kinds = re.findall(r"^kind: (\w+)", path.read_text(), re.MULTILINE)
        assert len(kinds) <= 1, path


def test_values_in_the_guide_are_taken(helm_4: Helm) -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    found = [yaml.safe_load(block) for block in blocks]
    values = [each for each in found if "apiVersion" not in each and "rules" not in each]
    assert len(values) > 5
    for each in values:
        helm_4.run("lint", "--strict", CHART, values=each)


def test_guide_explains_what_checkov_still_finds() -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    for check, _ in LEFT:
        assert f"`{check}`" in guide


def test_guide_names_every_example() -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name in guide
