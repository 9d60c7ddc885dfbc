"""The tools of the tests of the chart: `scripts/chart-tools` fetches them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.chart.helm import Helm


def pytest_configure() -> None:
    """Say what is missing at once, and not once for each test."""
    if not (tools_directory() / "helm-4").exists():
        raise pytest.UsageError(
            'the tools of the chart\'s tests are missing; run "make chart-test", which fetches them'
        )


def tools_directory() -> Path:
    """Find where `scripts/chart-tools` puts them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    given = os.environ.get("KOTAEMON_GRPC_CHART_TOOLS")
    return Path(given) if given else cache / "kotaemon-grpc" / "chart-tools"


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where the tools are."""
    return tools_directory()


@pytest.fixture(scope="session", params=["helm-3", "helm-4"])
def helm(request: pytest.FixtureRequest, tools: Path) -> Helm:
    """Each version of Helm in turn."""
    return Helm(tools / request.param)


@pytest.fixture(scope="session")
def helm_4(tools: Path) -> Helm:
    """The newest Helm, for what does not hang on the version."""
    return Helm(tools / "helm-4")
