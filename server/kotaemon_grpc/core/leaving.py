"""What tells those who serve streams that the server is going to stop."""

from __future__ import annotations

import asyncio


class Leaving:
    """Said once for the whole server, when it stops taking new calls."""

    def __init__(self) -> None:
        self.grace_s = 0.0
        self._said = asyncio.Event()

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

    async def wait(self) -> None:
        """Wait until it is said."""
        await self._said.wait()
