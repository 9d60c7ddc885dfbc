"""When a long run's memory counts as growing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
HOUR_S = 3600


@pytest.fixture
def trend(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    import trend  # noqa: PLC0415 - no package: found by the path alone

    return trend


def samples(hours: float, per_hour: float) -> tuple[list[float], list[float]]:
    """Memory of 200 MiB at the end of the warm-up, which grows by a part of that in an hour."""
    at_s = [float(second) for second in range(5, int(hours * HOUR_S) + 1, 5)]
    begin_s = at_s[-1] / 3
    return at_s, [200 * (1 + per_hour * (second - begin_s) / HOUR_S) for second in at_s]


@pytest.mark.parametrize("per_hour", [0.011, 0.02, 0.5])
def test_memory_that_grows_by_more_than_a_hundredth_an_hour_is_told(
    trend: Any, per_hour: float
) -> None:
    found = trend.of(*samples(1, per_hour))
    assert found.per_hour == pytest.approx(per_hour, abs=1e-4)
    assert found.is_growth


@pytest.mark.parametrize("per_hour", [0.009, 0, -0.1])
def test_memory_that_grows_by_less_or_shrinks_is_not(trend: Any, per_hour: float) -> None:
    found = trend.of(*samples(1, per_hour))
    assert found.per_hour == pytest.approx(per_hour, abs=1e-4)
    assert not found.is_growth


def test_a_short_run_may_grow_by_a_few_mebibytes(trend: Any) -> None:
    window_hours = 0.1 * 2 / 3
    assert not trend.of(*samples(0.1, 3 / 200 / window_hours)).is_growth
    assert trend.of(*samples(0.1, 5 / 200 / window_hours)).is_growth


def test_the_first_third_is_left_out(trend: Any) -> None:
    at_s, mib = samples(1, 0)
    warming_up = [
        20.0 if second < HOUR_S / 3 else each for second, each in zip(at_s, mib, strict=True)
    ]
    found = trend.of(at_s, warming_up)
    assert found.per_hour == pytest.approx(0, abs=1e-9)
    assert found.from_s == HOUR_S / 3


def test_what_is_given_back_does_not_count(trend: Any) -> None:
    at_s, mib = samples(1, 0)
    taken = [
        each + number % 7 * second / 100
        for number, (second, each) in enumerate(zip(at_s, mib, strict=True))
    ]
    assert trend.of(at_s, taken).per_hour == pytest.approx(0, abs=1e-9)
