"""What rules and queries may ask for, and what Prometheus says of them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import yaml

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from pathlib import Path


# Metrics by their names on the wire: the client library adds a suffix to some kinds.
_SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")
METRICS = {
    value + suffix
    for key, value in vars(names).items()
    if isinstance(value, str)
    and key.isupper()
    and value.startswith(("kotaemon_grpc_", "grpc_server_"))
    for suffix in _SUFFIXES
}

Series = list[tuple[str, str]]  # each with what is scraped every minute, as promtool writes it


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kotaemon_grpc|grpc_server)_\w+(?!:)\b", expression))


def promtool(tools: Path, *arguments: str | Path) -> None:
    done = subprocess.run(
        [tools / "promtool", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def check_samples(
    tools: Path,
    directory: Path,
    series: Series,
    *,
    when: str,
    expected: dict[str, list[dict[str, Any]]],
    rules: dict[str, Any] | None = None,
) -> None:
    """See that queries give what is expected, by `promtool test rules`."""
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules or {"groups": []}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series],
                "promql_expr_test": [
                    {"expr": query, "eval_time": when, "exp_samples": samples}
                    for query, samples in expected.items()
                ],
            }
        ],
    }
    (directory / "test.yaml").write_text(yaml.safe_dump(test))
    promtool(tools, "test", "rules", directory / "test.yaml")
