"""Which rounds the figures of the benchmark are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@dataclass
class Rate:
    per_s: float
    server_busy: float = 1.0


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    from comparison import Comparison  # noqa: PLC0415 - no package: found by the path alone

    return Comparison


def test_all_figures_are_of_the_rounds_that_count(compared: Any) -> None:
    found = compared(
        [
            {"bare": Rate(5000), "hardened": Rate(4000)},
            {"bare": Rate(6000), "hardened": Rate(1000, server_busy=0.5)},
            {"bare": Rate(100), "hardened": Rate(10)},
        ]
    )
    assert found.ratio("hardened", "bare") == 0.8
    assert (found.median("bare", "per_s"), found.median("hardened", "per_s")) == (5000, 4000)
    assert not found.is_provisional


@pytest.mark.parametrize(
    ("rounds", "per_s"),
    [
        ([{"bare": Rate(100)}, {"bare": Rate(900, server_busy=0.5)}], 100),
        ([{"bare": Rate(900, server_busy=0.5)}], 900),
        ([{"hardened": Rate(900)}], None),
    ],
    ids=["slow", "disturbed", "without bare"],
)
def test_figures_are_provisional_where_no_round_counts(
    compared: Any, rounds: list[dict[str, Rate]], per_s: float | None
) -> None:
    found = compared(rounds)
    assert found.is_provisional
    if per_s is not None:
        assert found.median("bare", "per_s") == per_s
    else:
        assert found.ratio("hardened", "bare") is None
