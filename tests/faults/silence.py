"""Servers that are there and say nothing, while others go on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lab import Lab
    from servers import Server
    from traffic import Load

_HALT_S = 10.0
_HOLE_S = 40.0  # longer than the client's pings take to find it
_HALF = 0.5
_READ_BYTES = 64 * 1024


async def sigstop(lab: Lab) -> None:
    halted, *others = await lab.start(3)
    async with _loads(lab, halted.address, others):
        halted.signal(signal.SIGSTOP)
        await asyncio.sleep(_HALT_S)
        halted.signal(signal.SIGCONT)
    lab.notes.append(f"halted for {_HALT_S:g} s")


async def blackhole(lab: Lab) -> None:
    swallowed, *others = await lab.start(3)
    async with Hole(swallowed.address) as hole, _loads(lab, hole.address, others):
        hole.swallow()
        await asyncio.sleep(_HOLE_S)
        hole.let_through()
    lab.expect(hole.swallowed_bytes, "nothing went into the hole")
    lab.notes.append(f"a hole for {_HOLE_S:g} s took {hole.swallowed_bytes} bytes")


async def silent_server(lab: Lab) -> None:
    servers = await lab.start(2)
    async with Mute() as mute, _loads(lab, mute.address, servers) as load:
        await load.enough()
    lab.expect(mute.connections, "nobody called the silent server")
    lab.notes.append(f"{mute.connections} connections were never answered")


@asynccontextmanager
async def _loads(lab: Lab, bad: str, good: list[Server]) -> AsyncIterator[Load]:
    """Call with two clients: one has the bad target among its own, the other has not."""
    targets = [server.address for server in good]
    async with (
        lab.steady_load(*targets, share=_HALF),
        lab.steady_load(bad, *targets, share=_HALF) as load,
    ):
        yield load


class Mute:
    """A listener that takes connections and never answers."""

    def __init__(self) -> None:
        self.connections = 0
        self._never = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._hold, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._never.set()
        self._listener.close()
        await self._listener.wait_closed()

    @property
    def address(self) -> str:
        return _address_of(self._listener)

    async def _hold(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self._never.wait()
        writer.close()


class Hole:
    """A proxy of one server that can stop to pass anything on, and closes nothing."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = host, int(port)
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._pipes: set[asyncio.Task[None]] = set()
        self.swallowed_bytes = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._join, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        await self._listener.wait_closed()

    @property
    def address(self) -> str:
        return _address_of(self._listener)

    def swallow(self) -> None:
        """Take what comes on either side, and pass nothing on."""
        self._is_open.clear()

    def let_through(self) -> None:
        """Pass on again what new connections send; those that lost something have ended."""
        self._is_open.set()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._is_open.wait()
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pipe = asyncio.ensure_future(self._pass_on(source, sink))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        lost = False
        with suppress(OSError):
            while data := await source.read(_READ_BYTES):
                if lost or not self._is_open.is_set():
                    lost = True
                    self.swallowed_bytes += len(data)
                    continue
                sink.write(data)
                await sink.drain()
        if lost:
            await self._is_open.wait()  # not even the end is passed on
        sink.close()


def _address_of(listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()
    return f"{host}:{port}"


ROWS = {each.__name__: each for each in (sigstop, blackhole, silent_server)}
