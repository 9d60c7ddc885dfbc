"""Tables of the documentation, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from kotaemon_grpc.core.errors import (
    AlreadyExists,
    ContentTooLarge,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceType,
    StorageFull,
    StorageUnavailable,
)
from kotaemon_grpc.pipeline.errors import status_of
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.wire.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"
CODES = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    8: "RESOURCE_EXHAUSTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


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


def codes_of_reasons() -> dict[str, str]:
    """Ask the one place that makes a status for the code and the reason of each error."""
    errors = [
        InvalidArgument(FieldViolation("f", "is bad")),
        *(NotFound(kind, "x") for kind in ResourceType),
        *(AlreadyExists(k, "x") for k in (ResourceType.DOCUMENT, ResourceType.CONVERSATION)),
        ContentTooLarge(1),
        StorageFull(),
        StorageUnavailable(),
        ValueError(),
    ]
    found = {}
    for error in errors:
        status = status_of(error, "r")
        reason = next(r for r in sorted(Reason, key=len, reverse=True) if has(status, r))
        found[str(reason)] = CODES[status.code]
    return found


def has(status: object, reason: Reason) -> bool:
    return reason.encode() in status.details[0].value  # type: ignore[attr-defined]


def test_the_table_of_errors_has_every_reason_with_its_code() -> None:
    documented = {
        reason.strip("`"): code.strip("`") for reason, code, *_ in table("errors.md", "reason")
    }
    assert set(documented) == set(Reason)
    assert documented == codes_of_reasons()


def test_the_table_of_metrics_has_every_metric_with_its_kind_and_labels() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.observe_store(documents=float, passages=float, index_lag=float)
    metrics.observe_log(int)
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
