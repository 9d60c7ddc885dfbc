"""The calls whose handlers run: what a server that stops waits for, and in the end stops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from kotaemon_grpc.core.errors import AgentError
    from kotaemon_grpc.pipeline.call import Call, Method


class Running:
    """The stage. A call is here from its start until its handler has come to its end.

    That may be later than the end of the call: a client that goes away ends the call at
    once, and its handler when that has cleaned up.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._calls: dict[Call, None] = {}

    def __iter__(self) -> Iterator[Call]:
        """Return the calls of now, the oldest first."""
        return iter(tuple(self._calls))

    def observer(self, _method: Method) -> _Register:
        """Make what takes note of the calls of a method."""
        return _Register(self._calls)

    def interrupt_all(self, error: AgentError) -> None:
        """Stop each handler where it waits; its call ends with the error."""
        for call in self:
            call.interrupt(error)

    async def wait_until_none(self) -> None:
        """Wait until no handler runs."""
        while self._calls:
            await asyncio.wait([call.task for call in self])


class _Register:
    """What the pipeline calls are methods of the dictionary itself: there is no cheaper way."""

    def __init__(self, calls: dict[Call, None]) -> None:
        self.on_start: Callable[[Call], object] = calls.setdefault
        self.on_end: Callable[[Call, grpc.StatusCode], object] = calls.pop  # if it is there
