"""How often a principal may call: the guard, over aiolimiter's leaky buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiolimiter import AsyncLimiter

from kotaemon_grpc.core.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.pipeline.call import Call, Method

MAX_PRINCIPALS = 10_000
"""Buckets that are kept: the one that was made first goes when there are more."""

_TAKEN_AT_ONCE_S = 1 / 50


class Rates:
    """The guard; it stands behind `Identification`.

    Args:
        calls_per_second: of each principal, over all methods, above 0. As many may
            come at once after a second of silence, and a fiftieth more.
        on_refused: is told of each refusal.
    """

    def __init__(self, calls_per_second: float, on_refused: Callable[[], None]) -> None:
        self._calls_per_second = calls_per_second
        self._on_refused = on_refused
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def admission(self, _method: Method) -> Callable[[Call], None]:
        """Make what takes a place in the principal's bucket; raises `RateLimited`."""
        return self._admit

    def _admit(self, call: Call) -> None:
        identity = call.identity
        if identity is None:
            raise RuntimeError("the caller was not identified")
        key = (identity.tenant, identity.principal)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_PRINCIPALS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key] = _Bucket(self._calls_per_second)
        if not bucket.take():
            self._on_refused()
            # A bucket that is full has room again after one interval at the latest.
            raise RateLimited(
                f"{self._calls_per_second:g} calls a second", 1 / self._calls_per_second
            )


class _Bucket:
    """The places of one principal.

    They are taken from the library some at a time, those of a fiftieth of a second:
    its bookkeeping would cost each call as much as all other guards together.
    """

    __slots__ = ("_at_once", "_in_hand", "_limiter")

    def __init__(self, calls_per_second: float) -> None:
        self._at_once = max(1, int(calls_per_second * _TAKEN_AT_ONCE_S))
        burst = max(1.0, calls_per_second)
        self._limiter = AsyncLimiter(burst, burst / calls_per_second)
        self._in_hand = 0

    def take(self) -> bool:
        """Take a place; False if there is none now."""
        if self._in_hand:
            self._in_hand -= 1
            return True
        for count in (self._at_once, 1):
            if self._limiter.has_capacity(count):
                _acquire(self._limiter, count)
                self._in_hand = count - 1
                return True
        return False


def _acquire(limiter: AsyncLimiter, count: int) -> None:
    """Take places that are known to be free: that does not wait, so no task is needed."""
    acquiring = limiter.acquire(count).__await__()
    try:
        next(acquiring)
    except StopIteration:
        return
    raise AssertionError("a bucket with room makes nobody wait")
