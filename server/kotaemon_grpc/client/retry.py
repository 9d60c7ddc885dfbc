"""When an attempt is repeated, and after how long."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import grpc
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from kotaemon_grpc.client.errors import CallError, ConfigurationError
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

_MAX_ATTEMPTS = 100
_MAX_PUSHBACK_MS = 2**31 - 1  # gRFC A6: what does not fit in 32 bits cannot be read
# What core says of a stream that the peer refused with RST_STREAM, code 7: it has not
# been begun there (RFC 9113, section 8.7).
_REFUSED = "Received RST_STREAM with error code 7"
_BROKEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often calls are repeated.

    Args:
        attempts: of one call at most, the first included: 1 to 100.
        initial_backoff_s: the longest wait before the second attempt, above 0. Each
            further one may be twice as long. The wait is a random part of it ("full
            jitter"), and comes on top of what the server asks for.
        max_backoff_s: the longest wait of all.
        budget_tokens: what a client may spend on failures (gRFC A6, "Throttling Retry
            Attempts"): each costs 1, and while half or less is left, nothing is
            repeated. Above 0.
        budget_ratio: what an attempt that went well earns, above 0.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    attempts: int = 5
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    budget_tokens: float = 100.0
    budget_ratio: float = 0.1

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= _MAX_ATTEMPTS:
            raise ConfigurationError(f"attempts must be 1 to {_MAX_ATTEMPTS}, not {self.attempts}")
        for name in ("initial_backoff_s", "max_backoff_s", "budget_tokens", "budget_ratio"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 < value < math.inf:
                raise ConfigurationError(f"{name} must be above 0 and finite, not {value}")


class RetryBudget:
    """Keeps a client from repeating calls to servers that fail most of them (gRFC A6)."""

    def __init__(self, tokens: float, ratio: float) -> None:
        """Begin with all tokens."""
        self._max = tokens
        self._tokens = tokens
        self._ratio = ratio

    @property
    def is_open(self) -> bool:
        """Whether calls may be repeated."""
        return self._tokens > self._max / 2

    def failed(self) -> None:
        """Pay for an attempt that failed as if the server had trouble."""
        self._tokens = max(self._tokens - 1, 0)

    def succeeded(self) -> None:
        """Earn by an attempt that went well."""
        self._tokens = min(self._tokens + self._ratio, self._max)


class Retries:
    """Repeats the attempts of all calls of a client, which share one budget.

    Args:
        policy: how often.
        clock: the seconds since some moment.
        sleep: waits for seconds.
        draw: a random number from 0 to 1, exclusive.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Begin with a full budget."""
        self._policy = policy
        self._budget = RetryBudget(policy.budget_tokens, policy.budget_ratio)
        self._clock = clock
        self._sleep = sleep
        self._draw = draw
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End all waits: who waits gets the error of the last attempt."""
        self._closed.set()

    async def run(
        self,
        attempt: Callable[[int], Awaitable[T]],
        *,
        deadline: float,
        on_retry: Callable[[int, CallError, float], None],
    ) -> T:
        """Return what an attempt returns; the last error if none does.

        Args:
            attempt: one that can be repeated; gets its number, from 1.
            deadline: by the clock; no wait ends after it.
            on_retry: gets the number, the error, and the wait in seconds.
        """
        is_renewed = False
        last: CallError | None = None

        def is_worth_it(error: BaseException) -> bool:
            nonlocal is_renewed
            if not isinstance(error, CallError):
                return False
            if is_expired(error):
                is_first, is_renewed = not is_renewed, True
                return is_first
            return self._allows(error)

        async def pause(seconds: float) -> None:
            await self._pause(seconds)
            if self._closed.is_set() and last is not None:
                raise last

        def note(state: RetryCallState) -> None:
            nonlocal last
            last = _error_of(state)
            on_retry(state.attempt_number, last, state.upcoming_sleep)

        def is_over(state: RetryCallState) -> bool:
            ends = self._clock() + state.upcoming_sleep
            return state.attempt_number >= self._policy.attempts or ends >= deadline

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_worth_it),
            wait=self._wait_s,
            stop=is_over,
            before_sleep=note,
            sleep=pause,
            reraise=True,
        )
        running = None
        try:
            async for running in retrying:
                with running:
                    result = await attempt(running.retry_state.attempt_number)
                    self._budget.succeeded()
                    return result
        finally:
            # An error that is kept here keeps this frame, and with it itself and its call.
            last = None
            if running is not None:
                running.retry_state.outcome = None
        raise AssertionError("the last attempt returns or raises")

    def _allows(self, error: CallError) -> bool:
        """Tell whether an attempt that failed may be repeated, and pay for it."""
        if not _is_transient(error):
            return False
        if is_refused(error):
            return True
        self._budget.failed()
        return self._budget.is_open and not _is_forbidden(error)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond `close`."""
        waits = {
            asyncio.ensure_future(self._sleep(seconds)),
            asyncio.ensure_future(self._closed.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _wait_s(self, state: RetryCallState) -> float:
        error = _error_of(state)
        if is_expired(error):
            return 0.0
        longest_s = min(
            self._policy.max_backoff_s,
            self._policy.initial_backoff_s * 2.0 ** (state.attempt_number - 1),
        )
        # The server tells all whom it refuses the same time: they must not come back as one.
        return _asked_for_s(error) + self._draw() * longest_s


def is_expired(error: CallError) -> bool:
    """Tell whether new credentials could help."""
    return (
        error.code is grpc.StatusCode.UNAUTHENTICATED and error.reason == Reason.CREDENTIALS_EXPIRED
    )


def is_refused(error: CallError) -> bool:
    """Tell whether the peer had no place for the stream, and so did not begin it."""
    return error.code is grpc.StatusCode.UNAVAILABLE and _REFUSED in error.message


def _is_transient(error: CallError) -> bool:
    """Tell whether an attempt failed in a way that the next one may not.

    A server says a reason with all that it refuses or fails at. Without one the
    connection broke, or grpc.aio put an error of its own in the place of a status
    that came while it sent a message.
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return (error.retry_pushback_ms, error.retry_after_s) != (None, None)
    return error.code is grpc.StatusCode.UNAVAILABLE or (error.code in _BROKEN and not error.reason)


def _is_forbidden(error: CallError) -> bool:
    pushback_ms = error.retry_pushback_ms
    return pushback_ms is not None and not 0 <= pushback_ms <= _MAX_PUSHBACK_MS


def _asked_for_s(error: CallError) -> float:
    if error.retry_pushback_ms is not None:
        return error.retry_pushback_ms / 1000
    return max(error.retry_after_s or 0.0, 0.0)


def _error_of(state: RetryCallState) -> CallError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)  # noqa: S101 - no other is repeated
    return error
