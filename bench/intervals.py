"""What was seen in a few seconds of a long run."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from served import LoopLag

_PERCENT = 100


@dataclass(frozen=True, slots=True)
class Interval:
    """What was seen.

    Args:
        at_s: its end, since the start of the run.
        floor_mib: the least memory that the server held: what it does not give back.
        peak_mib: the most.
        p50_ms: what half of its work took at the most; NaN if none was done.
        p99_ms: what all but a hundredth took at the most; likewise.
        lag_mean_ms: how late the server's event loop was, in the mean; NaN if it was not
            measured.
        lag_most_ms: how late it was at the most, rounded up to a bound of the histogram.
    """

    at_s: float
    floor_mib: float
    peak_mib: float
    p50_ms: float
    p99_ms: float
    lag_mean_ms: float
    lag_most_ms: float


def interval_of(
    at_s: float, resident_mib: Sequence[float], times_ms: Sequence[float], lag: LoopLag
) -> Interval:
    """Make an interval of what was measured in it."""
    nothing = float("nan")
    p50_ms, p99_ms = nothing, nothing
    if len(times_ms) > 1:
        percentiles = statistics.quantiles(times_ms, n=_PERCENT, method="inclusive")
        p50_ms, p99_ms = percentiles[49], percentiles[98]
    return Interval(
        at_s,
        min(resident_mib),
        max(resident_mib),
        p50_ms,
        p99_ms,
        lag.mean_ms,
        lag.most_ms,
    )
