"""Whether memory grows: a line through its low points, by least squares."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WARM_UP = 1 / 3
"""The part of a run that is left out: caches fill, and the allocator finds its size."""

MOST_PER_HOUR = 0.01
"""How much memory may grow in an hour, as a part of it."""

LOW_POINTS = 12
"""How many low points the line is laid through: the least of each part of the window.

What is taken for a moment and given back comes and goes in the rhythm of the load. What is
never given back raises the least.
"""

SHORT_S = 1800.0
"""How long a run is that is judged by `MOST_PER_HOUR` alone."""

NOISE_MIB = 4.0
"""By how much memory has to grow in the window of a shorter run to count.

In a few minutes the last of what warms up is still to be seen, and is a great deal an hour.
"""

_S_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through the low points of the window.

    Args:
        low_points: time in seconds, and MiB.
        from_s: where the window begins.
        to_s: where it ends.
        from_mib: the height of the line where the window begins.
        to_mib: where it ends.
    """

    low_points: Sequence[tuple[float, float]]
    from_s: float
    to_s: float
    from_mib: float
    to_mib: float

    @property
    def in_window(self) -> float:
        """By what part memory grew from the beginning of the window to its end."""
        return self.to_mib / self.from_mib - 1

    @property
    def per_hour(self) -> float:
        """By what part memory grows in an hour."""
        return self.in_window * _S_PER_HOUR / (self.to_s - self.from_s)

    @property
    def is_growth(self) -> bool:
        """Whether it grows by more than it may, and in a short run by more than noise."""
        is_noise = self.to_s < SHORT_S and self.to_mib - self.from_mib <= NOISE_MIB
        return self.per_hour > MOST_PER_HOUR and not is_noise


def of(at_s: Sequence[float], resident_mib: Sequence[float]) -> Trend:
    """Find the trend of samples, the first third of the time left out.

    Args:
        at_s: when each sample was taken since the start, in order.
        resident_mib: the memory at that time.

    Raises:
        StatisticsError: there are fewer than two samples in the window.
    """
    from_s, to_s = at_s[-1] * WARM_UP, at_s[-1]
    part_s = (to_s - from_s) / LOW_POINTS
    lows: dict[int, tuple[float, float]] = {}
    for second, mib in zip(at_s, resident_mib, strict=True):
        part = min(int((second - from_s) // part_s), LOW_POINTS - 1)
        if part >= 0 and (part not in lows or mib < lows[part][1]):
            lows[part] = second, mib
    points = tuple(lows.values())
    slope, height = statistics.linear_regression(*zip(*points, strict=True))
    return Trend(points, from_s, to_s, height + slope * from_s, height + slope * to_s)
