"""Whatever the schema lets through is refused in words or renders to objects that are right."""

from __future__ import annotations

import os
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.chart.helm import DEFAULTS, Refused, merged, settings_text, workload
from tests.chart.validation import KUBERNETES, problems
from tests.chart.value_space import SCHEMA, values

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest

EXAMPLES = int(os.environ.get("CHART_EXAMPLES", "120"))

pytestmark = pytest.mark.timeout(1200)


def check_settings(drawn: dict[str, Any], manifests: list[Manifest]) -> None:
    """The settings file is TOML, and has what was given as it was given."""
    written = tomllib.loads(settings_text(manifests))
    for section, keys in drawn.get("config", {}).items():
        for key, value in keys.items():
            found = written[section][key]
            if (section, key) in {("policy", "bindings"), ("documents", "import_paths")}:
                assert all(each in found for each in value)
            else:
                assert found == value


def check_replicas(drawn: dict[str, Any], manifests: list[Manifest]) -> None:
    """Nothing that scales fights with a number of pods, and no two pods share a store."""
    running = workload(manifests)
    scaled = [each for each in manifests if each["kind"] == "HorizontalPodAutoscaler"]
    if running["kind"] == "StatefulSet":
        assert running["spec"]["replicas"] <= 1
        assert not scaled
    elif scaled or drawn.get("autoscaling", {}).get("external"):
        assert "replicas" not in running["spec"]


def test_values_of_the_schema(helm: Helm) -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="CHART_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )
    @given(values(), st.sampled_from(KUBERNETES))
    def hold(drawn: dict[str, Any], kubernetes: str) -> None:
        jsonschema.validate(merged(DEFAULTS, drawn), SCHEMA)
        try:
            manifests = helm.render(drawn, kubernetes=kubernetes)
        except Refused as refusal:
            # In words: by the checks, and by no template that broke.
            said = str(refusal)
            assert said.startswith(
                "Error: execution error at (kotaemon-grpc/templates/checks.yaml"
            ), said
            seen["refused"] += 1
            return
        assert list(problems(manifests, kubernetes)) == []
        check_replicas(drawn, manifests)
        if "existingConfigMap" not in drawn:
            check_settings(drawn, manifests)
        seen["rendered"] += 1

    hold()
    print(f"{helm.program.name}: {dict(seen)}")  # noqa: T201 - a figure that people want
    assert seen["rendered"] > seen["refused"]
