"""Merge pieces of text that were not taken yet.

To send a message costs more than to write a word. While a reader is busy with one
message, what is written meanwhile is gathered, so that the next has all of it; a
reader that keeps up gets every piece as it is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import AnswerCompleted, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kotaemon_grpc.core.model import AnswerEvent

MAX_WAITING_CHARS = 4096
"""About a thousand tokens: enough to make the cost of a message small, and little
enough that an engine which never waits gives way to other calls in some milliseconds."""
MAX_WAITING_EVENTS = 64


async def coalesced(
    events: AsyncGenerator[AnswerEvent, None],
    *,
    max_waiting_chars: int = MAX_WAITING_CHARS,
    max_waiting_events: int = MAX_WAITING_EVENTS,
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield the events of an answer in their order, with waiting pieces of text merged.

    Pieces are merged only with their neighbours, and the first is never held back.
    What `events` raises comes after all that it yielded before. It runs in a task of
    its own, with the context variables of whoever asks for the first event, and is
    closed, and its task ended, when this generator is.

    Args:
        events: what is written; up to its `AnswerCompleted` if it has one.
        max_waiting_chars: with so many characters that were not taken, above 0,
            writing pauses.
        max_waiting_events: likewise for events once they are merged, above 0.
    """
    waiting = _Waiting(max_waiting_chars, max_waiting_events)
    writing = asyncio.create_task(_write(events, waiting))
    try:
        while (event := await waiting.take()) is not None:
            yield event
        await writing
    finally:
        if not writing.done():
            await _stop(writing, waiting)
        elif not writing.cancelled():
            # An error that nobody was left to be told of is not one of the event loop.
            writing.exception()


async def _write(events: AsyncGenerator[AnswerEvent, None], waiting: _Waiting) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                waiting.put(event)
                if isinstance(event, AnswerCompleted):
                    waiting.end()
                    return
                await waiting.give_way()
    finally:
        waiting.end()


async def _stop(writing: asyncio.Task[None], waiting: _Waiting) -> None:
    """End the task; one that wrote all it had is let finish."""
    if not waiting.has_ended:
        writing.cancel()
    task = asyncio.current_task()
    cancellations = task.cancelling() if task else 0
    # Whoever left is not told of errors any more, and the task's own cancellation is
    # what was asked for; only one of whoever waits here goes on.
    with suppress(Exception, asyncio.CancelledError):
        await writing
    if task and task.cancelling() > cancellations:
        raise asyncio.CancelledError


class _Waiting:
    """The events that were written and not taken; one task writes, another takes."""

    def __init__(self, max_chars: int, max_events: int) -> None:
        self.has_ended = False
        self._max_chars = max_chars
        self._max_events = max_events
        self._events: deque[AnswerEvent] = deque()
        self._pieces: list[str] = []
        """Text that comes after `_events`."""
        self._chars = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._reader_was_woken = False

    def put(self, event: AnswerEvent) -> None:
        """Add an event at the end."""
        if isinstance(event, TextDelta):
            self._pieces.append(event.text)
            self._chars += len(event.text)
        else:
            self._merge()
            self._events.append(event)
        self._wake_reader()

    def end(self) -> None:
        """Take note that nothing more comes."""
        self.has_ended = True
        self._wake_reader()

    async def give_way(self) -> None:
        """Let a reader go that was waiting; when too much waits, pause until less does."""
        if self._reader_was_woken:
            self._reader_was_woken = False
            await asyncio.sleep(0)
        while self._is_full():
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def take(self) -> AnswerEvent | None:
        """Remove the first event, waiting for it; None once nothing more comes."""
        while not self._events and not self._pieces:
            if self.has_ended:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._events:
            self._merge()
        event = self._events.popleft()
        if isinstance(event, TextDelta):
            self._chars -= len(event.text)
        if self._writer and not self._writer.done():
            self._writer.set_result(None)
        return event

    def _merge(self) -> None:
        if self._pieces:
            self._events.append(TextDelta("".join(self._pieces)))
            self._pieces.clear()

    def _is_full(self) -> bool:
        return self._chars >= self._max_chars or len(self._events) >= self._max_events

    def _wake_reader(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)
            self._reader_was_woken = True
