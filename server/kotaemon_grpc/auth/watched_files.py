"""Files that belong together and change while the server runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from kotaemon_grpc.auth.reload import Reloaded, SourceError, nobody
from kotaemon_grpc.auth.watched_file import POLL_S, stamp_of
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from kotaemon_grpc.auth.watched_file import Stamp

    _Stamps: TypeAlias = tuple[Stamp | None, ...]

T = TypeVar("T")

_LOOKS = 1
"""How often files that are no good are looked at again before it is told: who replaces one
after the other may be half-way."""


class WatchedFiles(Generic[T]):
    """What several files say together: read again, whole, when one of them has changed.

    While the present ones are no good, what the last good ones said is kept, and they
    are read again at every look: a certificate may be valid only from now on.

    Args:
        paths: the files, or links to them, which may come to point elsewhere: so a
            ConfigMap or Secret of Kubernetes is replaced. The first is `name`.
        load: reads them all, on a thread; raises `OperatorError`.
        on_reload: told, after the files were read again, whether they are good.
        on_change: told after `value` was replaced, and after `on_reload`.
        interval_s: how often they are looked at.
        sleep: waits for so many seconds.

    Raises:
        OperatorError: `load` does, at once. It may block.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[], T],
        *,
        on_reload: Callable[[bool], object] = nobody,
        on_change: Callable[[], object] = nobody,
        interval_s: float = POLL_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.name = str(paths[0])
        self._load = load
        self._changes = _Changes(paths, interval_s)
        # Looked at before they are read: what is written meanwhile is a change the next time.
        self._changes.read()
        self._reloaded = Reloaded(
            self._changes,
            self._read,
            load(),
            on_reload=on_reload,
            on_change=on_change,
            patience=_LOOKS,
            sleep=sleep,
        )

    @property
    def value(self) -> T:
        """What the last good files said."""
        return self._reloaded.value

    @property
    def problem(self) -> str:
        """What is wrong with the present files; empty if nothing is."""
        return self._reloaded.problem

    async def refresh_forever(self) -> None:
        """Keep the value current."""
        await self._reloaded.refresh_forever()

    def _read(self, _stamps: _Stamps) -> T:
        try:
            return self._load()
        except OperatorError as error:
            self._changes.forget()
            raise SourceError(str(error)) from None
        except BaseException:
            self._changes.forget()
            raise


class _Changes:
    """A source that gives the stamps of the files when they are not those it gave last."""

    required = True

    def __init__(self, paths: Sequence[Path], interval_s: float) -> None:
        self.name = ", ".join(str(path) for path in paths)
        self.interval_s = interval_s
        self._paths = tuple(paths)
        self._seen: _Stamps | None = None

    def read(self) -> _Stamps | None:
        stamps = tuple(_stamp(path) for path in self._paths)
        if stamps == self._seen:
            return None
        self._seen = stamps
        return stamps

    def forget(self) -> None:
        self._seen = None


def _stamp(path: Path) -> Stamp | None:
    """Return the stamp of a file, None if it has none now: to read it will tell why."""
    try:
        return stamp_of(path)
    except OSError:
        return None
