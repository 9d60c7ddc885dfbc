"""The connections to the servers: which one takes a call, and how they are exchanged."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import grpc

from kotaemon_grpc.client.errors import failed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

Dial: TypeAlias = "Callable[[str], grpc.aio.Channel]"
"""Opens a channel to a target."""

MAX_CALLS = 90
"""How many calls one link carries at once, dialogues and streams too; others wait.

A server takes 100 streams on a connection, the watch of its health among them, and
refuses what is more.
"""

_TOO_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
_SETTLE_LIMIT_S = 10.0  # core gives up connecting sooner; looking up a name may take longer
_RENEW_INTERVAL_S = 2.0  # between attempts by new connections, while no server takes calls
_FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE
_READY = grpc.ChannelConnectivity.READY


class Link:
    """A channel to one target, and the calls that it carries or that wait for a place."""

    def __init__(self, target: str, channel: grpc.aio.Channel) -> None:
        self.target = target
        self.channel = channel
        self.idle = asyncio.Event()
        self.idle.set()
        self._calls = 0
        self._places = asyncio.Semaphore(MAX_CALLS)
        self._is_closed = False

    @property
    def is_ready(self) -> bool:
        """Whether a server behind it is connected and says that it serves; else it connects."""
        return not self._is_closed and self.channel.get_state(try_to_connect=True) is _READY

    @property
    def is_full(self) -> bool:
        """Whether a further call would wait for a place."""
        return self._places.locked()

    @asynccontextmanager
    async def carrying(self, timeout_s: float | None) -> AsyncIterator[grpc.aio.Channel]:
        """Keep the channel for the time of a call, once there is a place for it.

        Raises:
            DeadlineError: there was none within these seconds.
            CallError: CANCELLED, for it was closed.
        """
        self._calls += 1
        self.idle.clear()
        try:
            await self._place(timeout_s)
            try:
                yield self.channel
            finally:
                self._places.release()
        finally:
            self._calls -= 1
            if not self._calls:
                self.idle.set()

    async def _place(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._places.acquire()
        except TimeoutError:
            raise failed(_TOO_LATE, "the deadline passed before there was a place") from None
        if self._is_closed:
            self._places.release()
            raise failed(grpc.StatusCode.CANCELLED, "the client is closed")

    async def settled(self) -> None:
        """Wait until it is ready, or has failed to become so."""
        while not self._is_closed:
            state = self.channel.get_state(try_to_connect=True)
            if state in {_READY, _FAILED}:
                return
            await self.channel.wait_for_state_change(state)

    async def close(self) -> None:
        """Cancel the calls that it carries, and those that wait for a place."""
        self._is_closed = True
        for _ in range(self._calls):
            self._places.release()
        await self.channel.close()


class Pool:
    """Links to all targets, that take calls in turn while they are ready.

    Core shares the calls of one target among its addresses and asks each whether it
    serves. It cannot do so over several targets: it checks the certificates of all of
    a list's addresses by one name.

    Args:
        targets: of which there is one or more.
        dial: opens the channels.
        clock: seconds that never go back.
    """

    def __init__(
        self, targets: Iterable[str], dial: Dial, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._dial = dial
        self._clock = clock
        self._links = tuple(Link(target, dial(target)) for target in targets)
        self._turn = itertools.count()
        self._changing = asyncio.Lock()
        self._recovering: asyncio.Task[None] | None = None
        self._retiring: dict[Link, asyncio.Task[None]] = {}
        self._renew_at_s = clock()

    @property
    def is_ready(self) -> bool:
        """Whether a call would find a server."""
        return any(link.is_ready for link in self._links)

    async def link(self, timeout_s: float | None) -> Link:
        """Return the link whose turn it is.

        It waits while none is ready and one may become so. One that is not ready is
        returned when all have failed: its call fails, and says why. One that is full
        is passed over while another is not.
        """
        if not (ready := _ready(self._links)):
            if self._recovering is None or self._recovering.done():
                self._recovering = asyncio.create_task(self._recover())
            await asyncio.wait((self._recovering,), timeout=timeout_s)
            ready = _ready(self._links) or list(self._links)
        ready = [link for link in ready if not link.is_full] or ready
        return ready[next(self._turn) % len(ready)]

    async def move(self, targets: Iterable[str] | None = None, dial: Dial | None = None) -> bool:
        """Exchange links for others, once these are connected.

        Calls in flight end where they are, and only then is their channel closed.

        Args:
            targets: None for the present ones. What they share with these keeps its link.
            dial: opens all channels anew, and those of the future; None for the present.

        Returns:
            False if none of the new links became ready and a present one is: these stay.
        """
        async with self._changing:
            present = {link.target: link for link in self._links}
            kept = present if dial is None else {}
            dial = dial or self._dial
            links = tuple(
                kept.get(target) or Link(target, dial(target))
                for target in (present if targets is None else targets)
            )
            moved = False
            try:
                await _settled(links, one_is_enough=False)
                if moved := bool(_ready(links)) or not self.is_ready:
                    self._links, self._dial = links, dial
            finally:
                used = set(self._links)
                for link in {*links, *present.values()} - used:
                    self._retiring[link] = asyncio.create_task(self._retire(link))
        return moved

    async def close(self) -> None:
        """Cancel the calls in flight and close all channels."""
        if self._recovering:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
        retiring = dict(self._retiring)
        for task in retiring.values():
            task.cancel()
        await asyncio.gather(*retiring.values(), return_exceptions=True)
        for link in (*self._links, *retiring):
            await link.close()

    async def _recover(self) -> None:
        """Wait until a link is ready; if all have failed, try new connections.

        Behind one name there may be another server by now, that core asks for only
        when its connection to the former breaks: one that no longer takes calls keeps it.
        """
        await _settled(self._links, one_is_enough=True)
        if not self.is_ready and self._clock() >= self._renew_at_s:
            await self.move(dial=self._dial)
            self._renew_at_s = self._clock() + _RENEW_INTERVAL_S

    async def _retire(self, link: Link) -> None:
        await link.idle.wait()
        await link.close()
        del self._retiring[link]


def _ready(links: Iterable[Link]) -> list[Link]:
    return [link for link in links if link.is_ready]


async def _settled(links: Iterable[Link], *, one_is_enough: bool) -> None:
    """Wait, not for ever, until all are ready or failed; or until one is ready."""
    links = list(links)
    waiting = {asyncio.ensure_future(link.settled()) for link in links}
    timer = asyncio.ensure_future(asyncio.sleep(_SETTLE_LIMIT_S))
    try:
        while waiting and not timer.done() and not (one_is_enough and _ready(links)):
            _, pending = await asyncio.wait({*waiting, timer}, return_when=asyncio.FIRST_COMPLETED)
            waiting &= pending
    finally:
        for task in (*waiting, timer):
            task.cancel()
        await asyncio.gather(*waiting, timer, return_exceptions=True)
