"""Break servers that are under load, and show what their clients notice.

    python tests/faults/run.py [--only ROW,...] [--calls N] [--streams M] [--rate R] [--keep DIR]

A line a row on stderr, then one JSON object as the last line of stdout. Ends with status 1
if a row failed. docs/reliability.md says what each row does and what is promised.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attacks
import resources
import restarts
import rotation
import silence
from lab import Lab, Size
from servers import RowFailed, RowSkipped

from kotaemon_grpc.client import ClientError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ledger import Entries

ROWS: dict[str, Callable[[Lab], Awaitable[None]]] = {
    **restarts.ROWS,
    **silence.ROWS,
    **rotation.ROWS,
    **resources.ROWS,
    **attacks.ROWS,
}
ONCE = {"rolling_restart", "kill9", "cert_rotation", "ca_rotation"}
"""Rows in which no work may be done twice; in all others the memory has a bound."""

MOST_GROWTH_MB = 256.0
"""By how much more memory than before a server may hold at any time."""

_ROW_LIMIT_S = 900.0
_REASONS = 3


@dataclass(frozen=True)
class Verdict:
    """What became of a row."""

    figures: dict[str, float]
    problems: Sequence[str]
    notes: Sequence[str]
    memory: str


def main() -> None:
    arguments = _arguments()
    try:
        # Not uvloop, whose way to start a process runs what core does at a fork, and core may
        # end the child for it.
        found = asyncio.run(_until_stopped(arguments))
    except asyncio.CancelledError:
        sys.exit(1)
    print(json.dumps({name: verdict.figures for name, verdict in found.items()}))  # noqa: T201 - the result
    if any(verdict.problems for verdict in found.values()):
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Break servers that are under load.")
    parser.add_argument("--only", metavar="ROW,...", default=",".join(ROWS), help="rows to run")
    parser.add_argument(
        "--calls", type=int, default=5_000, help="unary calls a row at the least [5000]"
    )
    parser.add_argument("--streams", type=int, default=200, help="streams a row at the least [200]")
    parser.add_argument("--rate", type=float, default=150.0, help="unary calls a second [150]")
    parser.add_argument("--keep", metavar="DIR", help="leave all files there, logs among them")
    arguments = parser.parse_args()
    arguments.rows = arguments.only.split(",")
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if not 0 < arguments.streams <= arguments.calls or arguments.rate <= 0:
        parser.error("--streams is at least 1 and not above --calls, and --rate is above 0")
    return arguments


async def _until_stopped(arguments: argparse.Namespace) -> dict[str, Verdict]:
    """Run the rows; a signal ends them such that servers end and files are removed."""
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)  # type: ignore[union-attr]
    size = Size(arguments.calls, arguments.streams, arguments.rate)
    found: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="kotaemon-grpc-faults-") as temporary:
        for name in arguments.rows:
            directory = Path(arguments.keep or temporary) / name
            directory.mkdir(parents=True)
            _say(f"{name:19}", end="")
            began_s = time.monotonic()
            verdict = await _run(name, directory, size)
            _say(_line(verdict, time.monotonic() - began_s))
            if verdict.figures or verdict.problems:
                found[name] = verdict
    return found


async def _run(name: str, directory: Path, size: Size) -> Verdict:
    async with Lab(directory, size) as lab:
        try:
            async with asyncio.timeout(_ROW_LIMIT_S):
                await ROWS[name](lab)
        except RowSkipped as reason:
            return Verdict({}, (), (f"SKIPPED: {reason}",), "")
        except (RowFailed, ClientError, TimeoutError, OSError) as error:
            lab.problems.append(f"{type(error).__name__}: {error}")
        return _judge(name, lab)


def _judge(name: str, lab: Lab) -> Verdict:
    counts, memory, entries = lab.counts, lab.memory, lab.entries()
    lab.problems += [f"{times} x {what}" for what, times in counts.failures.most_common(_REASONS)]
    lab.expect(
        counts.asked >= lab.size.calls and counts.streamed >= lab.size.streams,
        f"only {counts.asked} calls and {counts.streamed} streams were made",
    )
    lab.problems += _disagreements(name, lab, entries)
    lab.expect(
        name in ONCE or memory.growth <= MOST_GROWTH_MB,
        f"a server held {memory.growth:.0f} MB more than before, of {MOST_GROWTH_MB:g} at most",
    )
    figures: dict[str, Any] = {
        "sent": counts.sent,
        "failed": counts.failed,
        "twice": entries.twice,
        "rss_mb": round(memory.peak, 1),
        "p99_ms": round(counts.p99_ms, 1),
    }
    held = f"{memory.before:.0f} / {memory.peak:.0f} / {memory.after:.0f} MB"
    return Verdict(figures, tuple(lab.problems), tuple(lab.notes), held)


def _disagreements(name: str, lab: Lab, entries: Entries) -> list[str]:
    """Hold what the callers saw against what the engines did."""
    lost = sum(1 for number in lab.counts.answered if not entries.done[number])
    found = [f"{lost} answers for which no work was done"] if lost else []
    if name in ONCE and entries.twice:
        found.append(f"{entries.twice} questions were worked on twice")
    return found


def _line(verdict: Verdict, took_s: float) -> str:
    word = "FAILED " if verdict.problems else "ok     " if verdict.figures else ""
    figures = ", ".join(f"{key} {value:g}" for key, value in verdict.figures.items())
    memory = f", memory before/peak/after {verdict.memory}" if verdict.memory else ""
    notes = "".join(f"; {note}" for note in verdict.notes)
    problems = "".join(f"\n{'':18}  because: {problem}" for problem in verdict.problems)
    return f"{word}{figures}{memory}, {took_s:.0f} s{notes}{problems}"


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    main()
