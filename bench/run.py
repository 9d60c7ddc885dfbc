"""Measure what the pipeline costs, in one run on two cores.

    python bench/run.py [--rounds N] [--round-s S] [--only PEER,...] [--profile]

One core is the servers', the other the load's. Prints tables, then one JSON object
as the last line; docs/performance.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import uvloop

import idle
import load
import material
import overload
import preflight
import process
import report
import rounds
import streams
from process import Process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from material import Material
    from overload import Load

_WARM_UP_S = 1.0
_IDLE_ROUNDS = 3
_STREAM_ROUNDS = 5
_STREAM_S = 2.0
_LOAD_ROUNDS = 3
_LOAD_S = 3.0


def main() -> None:
    """Run."""
    arguments = _arguments()
    try:
        cores = process.cores()
        os.sched_setaffinity(0, {cores[1]})
        found = uvloop.run(_until_stopped(arguments, cores))
    except asyncio.CancelledError:
        sys.exit(1)
    except (
        process.ServerFailed,
        preflight.NotAsExpected,
        load.CallFailed,
        OSError,
    ) as error:
        sys.exit(f"error: {error}")
    print(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what the pipeline costs.")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison [5]")
    parser.add_argument(
        "--round-s", type=float, default=3.0, help="seconds for each peer in a round [3]"
    )
    parser.add_argument(
        "--only", metavar="PEER,...", default="", help="compare these and measure nothing else"
    )
    parser.add_argument(
        "--profile", action="store_true", help="show where the time of hardened goes; slower"
    )
    arguments = parser.parse_args()
    arguments.peers = tuple(arguments.only.split(",")) if arguments.only else rounds.PEERS
    if unknown := set(arguments.peers) - set(rounds.PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    if arguments.rounds < 1 or arguments.round_s <= 0:
        parser.error("there is nothing to measure")
    return arguments


async def _until_stopped(arguments: argparse.Namespace, cores: tuple[int, int]) -> str:
    """Measure; a signal ends it such that servers end and files are removed."""
    loop = asyncio.get_running_loop()
    measuring = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, measuring.cancel)  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(prefix="kotaemon-grpc-bench-") as directory:
        return await _measure(arguments, material.make(Path(directory)), cores)


async def _measure(arguments: argparse.Namespace, made: Material, cores: tuple[int, int]) -> str:
    """Measure everything, show tables, and return the last line."""
    _show(_setting(arguments))
    comparison = await rounds.compare(
        made,
        arguments.peers,
        cores,
        rounds=arguments.rounds,
        round_s=arguments.round_s,
        warm_up_s=_WARM_UP_S,
        profile=arguments.profile,
    )
    _show(report.calls_table(comparison))
    flows: Sequence[dict[str, streams.Flow]] = ()
    idle_kib: dict[str, float] = {}
    loads: Sequence[Load] = ()
    if not arguments.only:
        flows = await streams.compare(made, cores, rounds=_STREAM_ROUNDS, round_s=_STREAM_S)
        _show(report.streams_table(flows))
        with Process("peers.receiver", cores[1]) as receiver:
            idle_kib = await _idle(made, cores, receiver.port)
            _show(report.idle_table(idle_kib))
            loads = await overload.measure(
                made,
                cores,
                receiver.port,
                rounds=_LOAD_ROUNDS,
                load_s=_LOAD_S,
                warm_up_s=_WARM_UP_S,
            )
        _show(report.overload_table(loads))
    return report.as_json(report.figures(comparison, flows, idle_kib, loads))


async def _idle(made: Material, cores: tuple[int, int], otlp_port: int) -> dict[str, float]:
    """Return the median of each peer, having measured them in turn."""
    peers = ("bare", "hardened")
    found = [
        {peer: await idle.stream_kib(peer, made, cores, otlp_port) for peer in peers}
        for _ in range(_IDLE_ROUNDS)
    ]
    return {peer: statistics.median(each[peer] for each in found) for peer in peers}


def _setting(arguments: argparse.Namespace) -> Iterator[str]:
    yield (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, "
        f"CPython {platform.python_version()}, grpcio {grpc.__version__}, "
        f"uvloop {uvloop.__version__}; {load.IN_FLIGHT} calls in flight, "
        f"{arguments.rounds} rounds of {arguments.round_s:g} s"
    )


def _show(lines: Iterable[str]) -> None:
    print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
