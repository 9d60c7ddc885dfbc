"""What tells those who serve streams that the server is going to stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")


class Leaving:
    """Said once for the whole server, when it stops taking new calls."""

    def __init__(self) -> None:
        self.grace_s = 0.0
        self._said = asyncio.Event()
        self._waiting: set[asyncio.Task[Any] | None] = set()

    @property
    def is_said(self) -> bool:
        """Whether the server is going to stop."""
        return self._said.is_set()

    def say(self, grace_s: float) -> None:
        """Say that the server is going to stop.

        Args:
            grace_s: how long what has begun may still take, at least 0.
        """
        self.grace_s = grace_s
        self._said.set()
        waiting, self._waiting = self._waiting, set()
        for task in waiting:
            if task is not None:
                task.cancel()

    async def wait(self) -> None:
        """Wait until it is said."""
        await self._said.wait()

    async def next_before(self, items: AsyncIterator[T]) -> T | None:
        """Return the next of what comes; None at its end, or as soon as it is said.

        After that nothing more can be taken from `items`: what comes then is lost.
        Thousands of streams wait here, so it costs each no task and no future: the task
        that waits is itself woken.
        """
        if self.is_said:
            return None
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            return await anext(items, None)
        except asyncio.CancelledError:
            is_ours = task is not None and task not in self._waiting
            # Whoever else has cancelled it goes before.
            if not is_ours or task is None or task.uncancel():
                raise
            return None
        finally:
            self._waiting.discard(task)
