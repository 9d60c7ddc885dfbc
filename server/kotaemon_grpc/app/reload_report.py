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
        self._problems: dict[tuple[object, ...], str] = {}
        self._just_told: tuple[object, ...] = ()

    def attempted(self, kind: str, name: str, problem: str, paths: Sequence[Path] = ()) -> None:
        """Tell of an attempt.

        Args:
            kind: one of `names.RELOAD_…`.
            name: of what was read.
            problem: why it was not taken; empty if it was.
            paths: all files that were read; others may have the same name.
        """
        self._counts[kind](not problem)
        read = (kind, name, *paths)
        before = self._problems.get(read, "")
        self._problems[read] = problem
        self._just_told = ()
        if problem and problem != before:
            found = {names.KEY_WHAT: kind, names.KEY_NAME: name, names.KEY_REASON: problem}
            self._log.warning(names.EVENT_RELOAD_FAILED, **found)
        elif before and not problem:
            self.changed(kind, name, paths)
            self._just_told = read

    def changed(self, kind: str, name: str, paths: Sequence[Path] = ()) -> None:
        """Tell of a new value, after the attempt that brought it."""
        if (kind, name, *paths) != self._just_told:
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
            self.attempted(kind, name, "" if succeeded else watched.problem, paths)

        def changed() -> None:
            on_change(watched.value)
            self.changed(kind, name, paths)

        watched = WatchedFiles(paths, load, on_reload=attempted, on_change=changed)
        self.watched.append(watched)
        return watched
