"""Put a server under a steady mixed load for long, and see whether its memory grows.

    python bench/soak.py --minutes M [--per-s N] [--to FILE]

Prints a line a minute, then one JSON object as the last line, and plots memory,
latency and loop lag. It fails if memory grows, or if a call fails;
docs/performance.md says how that is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

import chart
import trend
from intervals import Interval, interval_of
from kotaemon_grpc.client import AgentClient
from mixture import Mixture
from process import ServerFailed
from served import Served

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERVAL_S = 5.0
_LOOK_S = 0.25
_SHOWN_EVERY_S = 60.0
_LEAST_MINUTES = 1.0  # below that the trend would be one of a handful of samples
_IMAGE = Path(__file__).parents[1] / "build" / "soak.png"


def main() -> None:
    """Run."""
    arguments = _arguments()
    try:
        intervals, mixture = uvloop.run(_until_stopped(arguments.minutes * 60, arguments.per_s))
    except asyncio.CancelledError:
        sys.exit(1)
    except (ServerFailed, OSError) as error:
        sys.exit(f"error: {error}")
    found = trend.of([each.at_s for each in intervals], [each.floor_mib for each in intervals])
    chart.draw(intervals, found, arguments.to)
    print(f"plotted to {arguments.to}", end="\n\n")
    print(_last_line(intervals, mixture, found))
    if mixture.failed:
        sys.exit(f"error: {mixture.failed} calls failed, the first with {mixture.first_failure}")
    if found.is_growth:
        sys.exit(f"error: memory grows by {found.per_hour:.1%} an hour")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See whether a server's memory grows.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long [60]")
    parser.add_argument("--per-s", type=float, default=30.0, help="pieces of work a second [30]")
    parser.add_argument("--to", type=Path, default=_IMAGE, help="the image [build/soak.png]")
    arguments = parser.parse_args()
    if arguments.minutes < _LEAST_MINUTES or arguments.per_s <= 0:
        parser.error(f"it takes {_LEAST_MINUTES:g} minute at the least, and some load")
    return arguments


async def _until_stopped(length_s: float, per_s: float) -> tuple[list[Interval], Mixture]:
    """Soak; a signal ends it such that the server ends and its files are removed."""
    loop = asyncio.get_running_loop()
    soaking = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, soaking.cancel)  # type: ignore[union-attr]
    with (
        tempfile.TemporaryDirectory(prefix="kotaemon-grpc-soak-") as directory,
        Served(Path(directory)) as served,
    ):
        async with AgentClient(served.address, tls=served.tls) as client:
            mixture = Mixture(client)
            working = asyncio.create_task(mixture.work(per_s))
            try:
                return await _watch(served, mixture, length_s), mixture
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)


async def _watch(served: Served, mixture: Mixture, length_s: float) -> list[Interval]:
    """Take a sample at the end of each interval, until the time is up."""
    intervals: list[Interval] = []
    started_s = time.monotonic()
    lag = await asyncio.to_thread(served.loop_lag)
    while (at_s := (len(intervals) + 1) * _INTERVAL_S) <= length_s:
        resident_mib = []
        while (now_s := time.monotonic()) < started_s + at_s:
            resident_mib.append(served.resident_mib())
            await asyncio.sleep(min(_LOOK_S, started_s + at_s - now_s))
        before, lag = lag, await asyncio.to_thread(served.loop_lag)
        intervals.append(
            interval_of(at_s, resident_mib, mixture.take_times_ms(), lag.since(before))
        )
        if at_s % _SHOWN_EVERY_S == 0:
            _show(intervals[-1], mixture)
    return intervals


def _show(last: Interval, mixture: Mixture) -> None:
    print(
        f"{last.at_s / 60:5.0f} min  {last.floor_mib:7.1f} MiB  p50 {last.p50_ms:5.1f} ms  "
        f"p99 {last.p99_ms:6.1f} ms  loop lag {last.lag_mean_ms:5.2f} ms  "
        f"{mixture.done:,} done, {mixture.failed:,} failed",
        flush=True,
    )


def _last_line(intervals: Sequence[Interval], mixture: Mixture, found: trend.Trend) -> str:
    def median(name: str) -> float:
        return round(statistics.median(getattr(each, name) for each in intervals), 2)

    return json.dumps(
        {
            "minutes": round(intervals[-1].at_s / 60, 2),
            "done": mixture.done,
            "failed": mixture.failed,
            "rss_mib": round(intervals[-1].floor_mib, 1),
            "growth_per_hour": round(found.per_hour, 4),
            "growth_mib": round(found.to_mib - found.from_mib, 2),
            "grows": found.is_growth,
            "p50_ms": median("p50_ms"),
            "p99_ms": median("p99_ms"),
            "loop_lag_ms": median("lag_mean_ms"),
            "by_verb": mixture.done_by_verb,
        }
    )


if __name__ == "__main__":
    main()
