"""The plot of a long run: memory with its trend, latency, loop lag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from intervals import Interval
    from trend import Trend

_SIZE_INCHES = (10, 9)
_DOTS_PER_INCH = 120
_HEADROOM = 1.1
_S_PER_MINUTE = 60
_BLUE, _ORANGE, _RED, _GREY = "#1f5fa8", "#d97706", "#b91c1c", "#e5e7eb"


def draw(intervals: Sequence[Interval], trend: Trend, to: Path) -> None:
    """Draw a run.

    Args:
        intervals: what was seen, in order.
        trend: of its memory.
        to: the PNG; its directory is made.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    memory, latency, lag = figure.subplots(3, 1, sharex=True)
    minutes = [each.at_s / _S_PER_MINUTE for each in intervals]
    figure.suptitle(
        f"{minutes[-1]:g} minutes of steady mixed load: "
        f"memory {trend.from_mib:.1f} → {trend.to_mib:.1f} MiB, {trend.per_hour:+.2%} an hour",
        fontsize=14,
    )
    _draw_memory(memory, minutes, intervals, trend)
    latency.set_title("Time of a piece of work, by interval", loc="left", fontsize=11)
    latency.plot(minutes, [each.p99_ms for each in intervals], color=_ORANGE, lw=1.2, label="p99")
    latency.plot(minutes, [each.p50_ms for each in intervals], color=_BLUE, lw=1.2, label="p50")
    lag.set_title("Lag of the server's event loop, by interval", loc="left", fontsize=11)
    lag.plot(
        minutes,
        [each.lag_most_ms for each in intervals],
        color=_ORANGE,
        lw=1.2,
        drawstyle="steps-mid",
        label="at most (bound of the histogram)",
    )
    lag.plot(minutes, [each.lag_mean_ms for each in intervals], color=_BLUE, lw=1.2, label="mean")
    for axes in (latency, lag):
        axes.set_ylabel("ms")
        axes.set_ylim(bottom=0)
    for axes in (memory, latency, lag):
        axes.set_xlim(0, minutes[-1])
        axes.grid(color=_GREY)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    lag.set_xlabel("minutes since the start")
    lag.xaxis.set_major_locator(MaxNLocator(nbins=12, steps=[1, 2, 3, 5, 6, 10]))
    figure.savefig(to, dpi=_DOTS_PER_INCH)


def _draw_memory(
    axes: Axes, minutes: Sequence[float], intervals: Sequence[Interval], trend: Trend
) -> None:
    floor_mib = [each.floor_mib for each in intervals]
    peak_mib = [each.peak_mib for each in intervals]
    window = [trend.from_s / _S_PER_MINUTE, trend.to_s / _S_PER_MINUTE]
    axes.set_title("Resident memory of the server, by interval", loc="left", fontsize=11)
    axes.axvspan(0, window[0], color=_GREY, alpha=0.5, lw=0, label="warming up, not judged")
    axes.fill_between(
        minutes, floor_mib, peak_mib, color=_BLUE, alpha=0.2, lw=0, label="least to most"
    )
    axes.plot(minutes, floor_mib, color=_BLUE, lw=1.4, label="least")
    axes.plot(
        [at_s / _S_PER_MINUTE for at_s, _ in trend.low_points],
        [mib for _, mib in trend.low_points],
        color=_RED,
        ls="",
        marker="o",
        ms=4,
        label="low points",
    )
    axes.plot(
        window,
        [trend.from_mib, trend.to_mib],
        color=_RED,
        lw=1.8,
        ls="--",
        label="their trend, by least squares",
    )
    axes.set_ylabel("MiB")
    axes.set_ylim(0, max(peak_mib) * _HEADROOM)
