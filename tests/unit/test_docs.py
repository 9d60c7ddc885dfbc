"""Tables of the documentation, held against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from kotaemon_grpc.cli.config import config
from kotaemon_grpc.config import Config, load
from kotaemon_grpc.pipeline.errors import FAILURES, INTERNAL
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.wire.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = sorted(DOCS.glob("examples/*.toml"))
SNIPPETS = [
    pytest.param(snippet, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, snippet in enumerate(
        re.findall(
            r"^```toml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    )
]


def table(file: str, first_column: str) -> list[list[str]]:
    """Return the rows of the table whose first column has that title."""
    lines = iter((DOCS / file).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.replace(" ", "").lower().startswith(f"|{first_column}|"):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_errors_has_every_reason_with_its_code() -> None:
    documented = {
        reason.strip("`"): code.strip("`") for reason, code, *_ in table("errors.md", "reason")
    }
    assert set(documented) == set(Reason)
    failures = {*FAILURES.values(), INTERNAL}
    assert documented == {failure.reason: failure.code.name for failure in failures}


def test_the_table_of_metrics_has_every_metric_with_its_kind_and_labels() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.ask_store(documents=float, passages=float, index_lag=float)
    metrics.ask_log(dict)
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in metrics.registry.collect()
    }
    rows = {row[0].strip("`"): row for row in table("operations.md", "metric")}
    assert {name: row[1] for name, row in rows.items()} == exposed
    named = {
        name
        for name in vars(names).values()
        if isinstance(name, str) and name.startswith(("grpc_server_", "kotaemon_grpc_"))
    }
    assert {name.removesuffix("_total") for name in exposed} == named
    labels = {value for key, value in vars(names).items() if key.startswith("LABEL_")}
    documented = {label for row in rows.values() for label in re.findall(r"`(\w+)`", row[2])}
    assert documented == labels


def test_the_tables_of_settings_have_every_setting_with_its_default() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `(\w+\.\w+)` \| `(.*?)` \|", text, re.MULTILINE))
    defaults = {
        f"{section}.{key}": json.dumps(value)
        for section, values in Config().masked().items()
        for key, value in values.items()
    }
    assert documented == defaults


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_of_settings_passes_the_check(example: Path) -> None:
    result = CliRunner().invoke(config, ["check", str(example)])
    assert result.exit_code == 0, result.exception
    assert result.output == f"{example} is valid\n"


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_of_settings_is_valid(snippet: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(snippet, encoding="utf-8")
    load(file=file, environ={}, flags={})


def test_there_are_examples_and_snippets() -> None:
    assert EXAMPLES
    assert SNIPPETS
