"""The server as it is installed, in a process of its own, with a small corpus."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from prometheus_client.parser import text_string_to_metric_families

from kotaemon_grpc.client import TlsFiles
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.transport import pki
from process import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

CORPUS = Path(__file__).parents[1] / "tests" / "corpus"

_START_S = 60.0
_STOP_S = 60.0
_LOOK_S = 0.1
_ARENAS = "2"
_SCRAPE_S = 30.0
_MIB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20
_MS_PER_S = 1000


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the event loop was, as a histogram since the server started.

    Args:
        count: how often it was measured.
        sum_s: how late it was, all together.
        at_most: by the upper bound in seconds, how often it was no later.
    """

    count: float
    sum_s: float
    at_most: Mapping[float, float]

    @property
    def mean_ms(self) -> float:
        """How late it was in the mean; NaN if it was not measured."""
        return self.sum_s / self.count * _MS_PER_S if self.count else math.nan

    @property
    def most_ms(self) -> float:
        """The bound that it never passed; NaN if it was not measured, or if there is none."""
        if not self.count:
            return math.nan
        bound_s = min(bound_s for bound_s, seen in self.at_most.items() if seen >= self.count)
        return bound_s * _MS_PER_S if math.isfinite(bound_s) else math.nan

    def since(self, earlier: LoopLag) -> LoopLag:
        """Return what was measured since."""
        return LoopLag(
            self.count - earlier.count,
            self.sum_s - earlier.sum_s,
            {bound_s: seen - earlier.at_most[bound_s] for bound_s, seen in self.at_most.items()},
        )


class Served:
    """The server; as a context manager it is ended at the end.

    Attributes:
        address: where it serves.
        tls: what its client shows and trusts.
    """

    def __init__(self, directory: Path) -> None:
        """Start it, with its files in a directory, and wait until it serves.

        Raises:
            ServerFailed: it ended, or it took too long.
        """
        certs = directory / "certs"
        pki.ensure(certs)
        self.tls = TlsFiles.in_directory(certs)
        self._log = directory / "log"
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own server
                [
                    *(sys.executable, "-m", "kotaemon_grpc", "serve"),
                    "--listen=127.0.0.1:0",
                    "--health-listen=127.0.0.1:0",
                    "--operations-listen=127.0.0.1:0",
                    f"--data-dir={directory / 'data'}",
                    f"--certs={certs}",
                    f"--import={CORPUS / 'en'}",
                    f"--import={CORPUS / 'zh'}",
                    "--set=log.sample_ok=0.1",
                ],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
            )
        try:
            serving = self._serving()
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        self.address = serving["address"]
        self._metrics_url = f"http://{serving['operations_address']}/metrics"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def resident_mib(self) -> float:
        """Return how much memory it holds.

        Raises:
            ServerFailed: it has ended.
        """
        if self._child.poll() is not None:
            raise ServerFailed(f"the server ended with status {self._child.returncode}")
        pages = Path(f"/proc/{self._child.pid}/statm").read_text().split()[1]
        return int(pages) * _MIB_PER_PAGE

    def loop_lag(self) -> LoopLag:
        """Ask it how late its event loop was.

        Raises:
            OSError: it does not answer.
        """
        with urllib.request.urlopen(self._metrics_url, timeout=_SCRAPE_S) as response:  # noqa: S310 - our own server
            text = response.read().decode()
        (family,) = (
            each
            for each in text_string_to_metric_families(text)
            if each.name == names.LOOP_LAG_SECONDS
        )
        values = {(each.name, each.labels.get("le", "")): each.value for each in family.samples}
        return LoopLag(
            values[f"{family.name}_count", ""],
            values[f"{family.name}_sum", ""],
            {float(bound): value for (_, bound), value in values.items() if bound},
        )

    def _serving(self) -> dict[str, str]:
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:
            for line in self._log.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n") and (said := json.loads(line))["event"] == "server.serving":
                    serving: dict[str, str] = said
                    return serving
            if self._child.poll() is not None:
                raise ServerFailed(f"the server ended with status {self._child.returncode}")
            time.sleep(_LOOK_S)
        raise ServerFailed(f"the server does not serve after {_START_S:g} s")


def _environment() -> dict[str, str]:
    """Return the environment without settings that the caller's shell may have.

    glibc gives each thread that takes memory an arena of its own (mallopt(3), M_ARENA_MAX).
    What is free in 16 of them comes and goes by 100 MiB, in which no growth could be seen.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("KOTAEMON_GRPC_")}
    return {**kept, "MALLOC_ARENA_MAX": _ARENAS}
