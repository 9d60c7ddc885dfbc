"""The chart as Helm renders it."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "kotaemon-grpc"
EXAMPLES = CHART / "examples"
NAMESPACE = "agents"

FILES = "/etc/kotaemon-grpc-files"  # where the server finds Secrets and the like

Manifest = dict[str, Any]
Values = dict[str, Any]

DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text())


def merged(values: Values, stronger: Values) -> Values:
    """Lay values over others, as Helm does: maps are merged, and null takes a value away."""
    result = dict(values)
    for key, value in stronger.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Refused(Exception):
    """Helm did not render; the text is what it said."""


def as_yaml(values: Values) -> str:
    """Write values as JSON, but with YAML's escapes, which are no surrogate pairs."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub(r"[^\n -~]", lambda match: f"\\U{ord(match[0]):08x}", text)


@dataclass(frozen=True)
class Helm:
    """One version of Helm."""

    program: Path

    def run(self, *arguments: str | Path, values: Values | None = None) -> str:
        """Run a command.

        Raises:
            Refused: it failed.
        """
        command = [str(self.program), *map(str, arguments)]
        if values is not None:
            command.append("--values=-")
        done = subprocess.run(
            command,
            input=None if values is None else as_yaml(values),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def render(
        self,
        values: Values | None = None,
        *,
        example: str = "",
        release: str = "agents",
        kubernetes: str = "1.37",
        chart: Path = CHART,
        api_versions: tuple[str, ...] = (),
    ) -> list[Manifest]:
        """Render the chart with the values of an example, if one is named, and then these."""
        files = [f"--values={EXAMPLES / f'{example}.yaml'}"] if example else []
        apis = [f"--api-versions={version}" for version in api_versions]
        where = [f"--namespace={NAMESPACE}", f"--kube-version={kubernetes}"]
        text = self.run("template", release, chart, *where, *apis, *files, values=values or {})
        # What was rendered twice must be seen: PyYAML takes the last of two equal keys silently.
        return [each for each in yaml.load_all(text, StrictLoader) if each]

    def notes(self, values: Values) -> str:
        """Return what Helm says after an install with these values."""
        where = ("install", "agents", CHART, f"--namespace={NAMESPACE}", "--dry-run=client")
        return self.run(*where, values=values).partition("NOTES:")[2]


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping with a key twice, as Kubernetes in strict mode does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        """Make a mapping whose keys differ."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Choose objects by kind."""
    return [each for each in manifests if each["kind"] in kinds]


def only(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Give the one object of a kind, of those with a suffix in their name."""
    (found,) = [
        each for each in of_kind(manifests, kind) if each["metadata"]["name"].endswith(suffix)
    ]
    return found


def workload(manifests: list[Manifest]) -> Manifest:
    """Give the StatefulSet or the Deployment."""
    (found,) = of_kind(manifests, "StatefulSet", "Deployment")
    return found


def server(manifests: list[Manifest]) -> Manifest:
    """Give the container of the server."""
    containers = workload(manifests)["spec"]["template"]["spec"]["containers"]
    return next(each for each in containers if each["name"] == "server")


def settings_text(manifests: list[Manifest]) -> str:
    """Give the settings file that the server reads."""
    (found,) = [each for each in of_kind(manifests, "ConfigMap") if "config.toml" in each["data"]]
    return found["data"]["config.toml"]


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest, Manifest]]:
    """Give what each pod is called, its metadata and its spec."""
    found = []
    for each in manifests:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            found.append((name, each["metadata"], each["spec"]))
        elif "template" in each.get("spec", {}):
            template = each["spec"]["template"]
            found.append((name, template["metadata"], template["spec"]))
    return found


def volumes(manifests: list[Manifest]) -> dict[str, Any]:
    """Give the volumes of the pod by name."""
    return {
        each["name"]: each for each in workload(manifests)["spec"]["template"]["spec"]["volumes"]
    }
