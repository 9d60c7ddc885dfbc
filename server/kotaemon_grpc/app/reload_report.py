"""What operators are told of what is read again while the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from kotaemon_grpc.auth.reload import nobody
from kotaemon_grpc.auth.watched_files import WatchedFiles
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.telemetry.metrics import Metrics

T = TypeVar("T")

_KINDS = (
    names.RELOAD_JWKS,
    names.RELOAD_API_KEYS,
    names.RELOAD_CERTIFICATES,
    names.RELOAD_SETTINGS,
)


class ReloadReport:
    """Counts every attempt, and writes a line when there is news.

    News is a value that was taken, a new problem, and that it is gone.

    Attributes:
        watched: what `watch` has made.
    """

    def __init__(self, metrics: Metrics, log: FilteringBoundLogger) -> None:
        """Take where to count and to write."""
        self._counts = {kind: metrics.on_reload(kind) for kind in _KINDS}
        self.watched: list[WatchedFiles[Any]] = []
        self._log = log
        self._problems: dict[str, str] = {}
        self._just_told = ""

    def attempted(self, kind: str, name: str, problem: str) -> None:
        """Tell of an attempt.

        Args:
            kind: one of `names.RELOAD_…`.
            name: of what was read.
            problem: why it was not taken; empty if it was.
        """
        self._counts[kind](not problem)
        before = self._problems.get(name, "")
        self._problems[name] = problem
        self._just_told = ""
        if problem and problem != before:
            found = {names.KEY_WHAT: kind, names.KEY_NAME: name, names.KEY_REASON: problem}
            self._log.warning(names.EVENT_RELOAD_FAILED, **found)
        elif before and not problem:
            self.changed(kind, name)
            self._just_told = name

    def changed(self, kind: str, name: str) -> None:
        """Tell of a new value, after the attempt that brought it."""
        if name != self._just_told:
            found = {names.KEY_WHAT: kind, names.KEY_NAME: name}
            self._log.info(names.EVENT_RELOADED, **found)

    def watch(
        self,
        kind: str,
        paths: Sequence[Path],
        load: Callable[[], T],
        on_change: Callable[[T], object] = nobody,
    ) -> WatchedFiles[T]:
        """Read files, and make what keeps them current and tells of it here.

        Args:
            kind: one of `names.RELOAD_…`.
            paths: the files; the first gives its name.
            load: reads them, on a thread.
            on_change: takes the new value.

        Raises:
            OperatorError: `load` does, at once. It may block.
        """
        name = str(paths[0])

        def attempted(succeeded: bool) -> None:  # noqa: FBT001 - a callback
            self.attempted(kind, name, "" if succeeded else watched.problem)

        def changed() -> None:
            on_change(watched.value)
            self.changed(kind, name)

        watched = WatchedFiles(paths, load, on_reload=attempted, on_change=changed)
        self.watched.append(watched)
        return watched
