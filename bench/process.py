"""Servers in processes of their own, each on one core, none of which outlives the run."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).parent
_START_S = 60.0
_STOP_S = 15.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB_PER_PAGE = os.sysconf("SC_PAGE_SIZE") // 1024


class ServerFailed(Exception):
    """A server did not start."""


def cores() -> tuple[int, int]:
    """Return the core for servers and the one for the load.

    Raises:
        ServerFailed: this process may use one core only.
    """
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:  # noqa: PLR2004 - as many as are returned
        raise ServerFailed("two cores are needed: one for the server, one for the load")
    return usable[0], usable[1]


class Process:
    """A module of `bench/` that serves.

    It ends when its stdin does: even a run that is killed leaves no server behind.

    Attributes:
        port: where it listens.
    """

    def __init__(self, module: str, core: int, arguments: Sequence[str] = ()) -> None:
        """Start it on a core and wait until it serves.

        Args:
            module: as `peers.bare`.
            core: the number of the core.
            arguments: for its command line.

        Raises:
            ServerFailed: it ended, or it took too long.
        """
        own = os.sched_getaffinity(0)
        # A child has its parent's cores: set before it can start a thread of its own.
        os.sched_setaffinity(0, {core})
        try:
            self._child = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", module, *arguments],
                cwd=_HERE,
                # Else core tells of every handshake that fails, as one of each preflight does.
                env={**os.environ, "GRPC_VERBOSITY": "ERROR"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        finally:
            os.sched_setaffinity(0, own)
        try:
            self.port = int(self._line(module)["port"])
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def resident_kib(self) -> int:
        """Return how much memory it holds."""
        pages = Path(f"/proc/{self._child.pid}/statm").read_text().split()[1]
        return int(pages) * _KIB_PER_PAGE

    def busy_s(self) -> float:
        """Return how much time of its core it has had, with all its threads."""
        # Its name, in brackets before these, has no space (proc_pid_stat(5)).
        user, system = Path(f"/proc/{self._child.pid}/stat").read_text().split()[13:15]
        return (int(user) + int(system)) / _TICKS_PER_S

    def stop(self) -> str:
        """End it; return what it wrote on its stdout since it served."""
        try:
            return self._child.communicate(timeout=_STOP_S)[0].decode()
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.communicate()[0].decode()
        except ValueError:
            return ""  # it was stopped before

    def _line(self, module: str) -> dict[str, int]:
        stdout = self._child.stdout
        if stdout is None or not select.select([stdout], [], [], _START_S)[0]:
            raise ServerFailed(f"{module} does not serve after {_START_S:g} s")
        line = stdout.readline()
        if not line:
            raise ServerFailed(f"{module} ended with status {self._child.wait()}")
        found: dict[str, int] = json.loads(line)
        return found
