"""A value that is read again while the server runs, and kept while reading fails."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import ssl
import time
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)

EARLY_S = 10.0
"""The least time between an attempt to read and one that is asked for out of turn."""

READ_LIMIT_S = 30.0
"""How long a source may take. A network file system that hangs takes for ever."""

START_LIMIT_S = 1.0
"""How long the start of the server waits for a source that it can do without."""

_FIRST_RETRY_S = 1.0
_MAX_DOUBLINGS = 16  # beyond any interval; the number of failures has no bound


class SourceError(Exception):
    """A source gives nothing of use. The message says why, without its content."""


class Source(Protocol[C_co]):
    """Where a value comes from.

    Attributes:
        name: the file or URL, for people.
        required: whether the server cannot start without it.
        interval_s: how often it is read.
    """

    name: str
    required: bool
    interval_s: float

    def read(self) -> C_co | None:
        """Return the content, or None if it is what was returned last. It may block.

        Raises:
            OSError: it cannot be reached.
            SourceError: it gives nothing of use.
        """


def nobody(*_: object) -> None:
    """Be told in place of somebody."""


class Reloaded(Generic[C, T]):
    """A value from a source: replaced as a whole, on the event loop, kept on any failure.

    Args:
        source: where it comes from; it is read on a thread.
        parse: makes the value, on that thread; raises `SourceError`.
        initial: the value until the source has given one.
        on_reload: told after each attempt that did anything whether it succeeded.
        on_change: told after the value was replaced, and after `on_reload`.
        patience: how many failures in a row are not told of: several files that are
            replaced one after the other do not fit together for a moment.
        limit_s: how many seconds an attempt may take. One that takes longer has failed,
            and is waited for at the next: no second thread is put at risk.
        sleep: waits for so many seconds.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        source: Source[C],
        parse: Callable[[C], T],
        initial: T,
        *,
        on_reload: Callable[[bool], object],
        on_change: Callable[[], object],
        patience: int = 0,
        limit_s: float = READ_LIMIT_S,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.value = initial
        self.problem = ""  # why the last attempt failed; empty if it did not
        self._source = source
        self._parse = parse
        self._on_reload = on_reload
        self._on_change = on_change
        self._patience = patience
        self._limit_s = limit_s
        self._reading: asyncio.Task[tuple[C, T] | None] | None = None
        self._sleep = sleep
        self._clock = clock
        self._content: C | None = None  # of the value
        self._failures = 0
        self._attempted_s = -math.inf
        self._wanted = asyncio.Event()

    async def load(self) -> None:
        """Read it for the first time. A source that is not required has `START_LIMIT_S`.

        Raises:
            OperatorError: the source is required and fails. Another is tried again by
                `refresh_forever`.
        """
        await self._reload(self._limit_s if self._source.required else START_LIMIT_S)
        if self.problem and self._source.required:
            raise OperatorError(
                f"{self._source.name} cannot be used: {self.problem}; mend it or name another"
            )

    async def refresh_forever(self) -> None:
        """Read it again and again: at its interval, and after a failure sooner, backing off."""
        while True:
            await self._rest()
            await self._reload(self._limit_s)

    def refresh_soon(self) -> None:
        """Ask for another attempt now, unless there was one in the last `EARLY_S`."""
        if self._clock() - self._attempted_s >= EARLY_S:
            self._wanted.set()

    @property
    def is_read(self) -> bool:
        """Whether the source has ever given a value."""
        return self._content is not None

    @property
    def rest_s(self) -> float:
        """How long it rests after the last attempt."""
        if not self._failures:
            return self._source.interval_s
        doublings = min(self._failures - 1, _MAX_DOUBLINGS)
        return float(min(self._source.interval_s, _FIRST_RETRY_S * 2**doublings))

    async def _rest(self) -> None:
        timer = asyncio.ensure_future(self._sleep(self.rest_s))
        wanted = asyncio.ensure_future(self._wanted.wait())
        try:
            await asyncio.wait((timer, wanted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            wanted.cancel()
        self._wanted.clear()

    async def _reload(self, limit_s: float) -> None:
        self._attempted_s = self._clock()
        ok, found = False, None
        try:
            found = await self._read_in_time(limit_s)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, what was good is kept
            self._failures += 1
            if self._failures <= self._patience:
                return
            self.problem = _reason(error)
        else:
            if found is None:
                return
            ok, self.problem, self._failures = True, "", 0
        changed = found is not None and found[0] != self._content
        if found is not None:
            self._content, self.value = found
        self._on_reload(ok)
        if changed:
            self._on_change()

    async def _read_in_time(self, limit_s: float) -> tuple[C, T] | None:
        reading = self._reading or asyncio.ensure_future(asyncio.to_thread(self._read))
        self._reading = reading
        try:
            await asyncio.wait((reading,), timeout=limit_s)
        except asyncio.CancelledError:
            reading.cancel()
            raise
        if not reading.done():
            raise TimeoutError
        self._reading = None
        return reading.result()

    def _read(self) -> tuple[C, T] | None:
        content = self._source.read()
        if content is None:
            return None
        return content, (self.value if content == self._content else self._parse(content))


def _reason(error: Exception) -> str:
    """Word a failure. Of an unexpected one only its kind is told: its text may be anything."""
    if isinstance(error, SourceError):
        return str(error)
    return _refusal(error) if isinstance(error, OSError) else type(error).__name__


def _refusal(error: OSError) -> str:
    """Word what the system says. The `errno` of TLS and of host names is none of the system's."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or type(error).__name__
            return f"TLS failed: {reason.lower().replace('_', ' ')}"
        case socket.gaierror():
            return "its host name is not known"
        case TimeoutError():
            return "it takes too long"
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
