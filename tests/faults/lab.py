"""The world of one row: servers, the load on them, and what they were seen to do."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import ledger
from authority import Authority, Secret
from servers import RowFailed, Server
from traffic import Counts, Load

from kotaemon_grpc.client import AgentClient
from kotaemon_grpc.transport.certificate import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

WARM_UP_CALLS = 300
"""What every server has served when its memory is taken as that of before."""

TIMEOUT_S = 60.0
_SAMPLE_S = 0.1
_POLL_S = 0.1


@dataclass(frozen=True)
class Size:
    """Of the load of a row: see `Load`."""

    calls: int
    streams: int
    rate: float


@dataclass
class Memory:
    """In MB: of the server with the most, before what happens, at its most, and afterwards."""

    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0

    @property
    def growth(self) -> float:
        return self.peak - self.before


@dataclass
class Lab:
    """One row's.

    Args:
        directory: an empty one, for all files.
        size: of the load.

    Attributes:
        problems: why the row has failed, if it has.
        notes: what was seen besides, for people.
        numbers: gives each question a number that no other has.
    """

    directory: Path
    size: Size
    counts: Counts = field(default_factory=Counts)
    memory: Memory = field(default_factory=Memory)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    servers: list[Server] = field(default_factory=list)
    authority: Authority = field(default_factory=Authority)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    _opened: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        sampling = asyncio.ensure_future(self._sample())
        self._opened.callback(sampling.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self.servers:
            await server.kill()
        await self._opened.aclose()

    @property
    def ledger(self) -> Path:
        return self.directory / "ledger"

    @cached_property
    def server_secret(self) -> Secret:
        """What all servers use."""
        return self.secret("server", Usage.SERVER)

    @cached_property
    def client_secret(self) -> Secret:
        """What the well-behaved clients use."""
        return self.secret("client", Usage.CLIENT)

    def secret(self, name: str, usage: Usage) -> Secret:
        """Make files of a certificate of the lab's CA."""
        secret = Secret(self.directory / f"{name}-secret")
        secret.replace({"ca.crt": self.authority.pem, **self.authority.issue(name, usage)})
        return secret

    async def start(
        self, count: int = 1, settings: dict[str, Any] | None = None, **more: Any
    ) -> Sequence[Server]:
        """Start servers, each with data of its own."""
        first = len(self.servers)
        started = [
            Server(
                self.directory / f"server-{number}",
                self.server_secret,
                self.ledger,
                settings or {},
                **more,
            )
            for number in range(first, first + count)
        ]
        self.servers += started
        await asyncio.gather(*(server.start() for server in started))
        return started

    def client(self, *targets: str, **more: Any) -> AgentClient:
        """Make a client of these servers."""
        tls = self.client_secret.tls
        return AgentClient(targets, tls=tls, timeout_s=TIMEOUT_S, **more)

    @asynccontextmanager
    async def steady_load(
        self, *targets: str, share: float = 1.0, **more: Any
    ) -> AsyncIterator[Load]:
        """Call these servers all the time; leave when that was enough and all has ended.

        Args:
            targets: the addresses.
            share: of the row's load.
            more: for the client.
        """
        calls, streams = int(self.size.calls * share), int(self.size.streams * share)
        async with self.client(*targets, **more) as client:
            load = Load(
                client,
                self.counts,
                self.numbers,
                calls=calls,
                streams=streams,
                rate=self.size.rate * share,
            )
            running = asyncio.ensure_future(load.run())
            try:
                warm = min(WARM_UP_CALLS * share, calls / 2)
                await self.until(lambda: load.made >= warm, "the load stands still", TIMEOUT_S)
                self.memory.before = self._rss_mb()
                yield load
                load.end()
                await running
                self.memory.after = self._rss_mb()
            finally:
                running.cancel()

    def expect(self, is_so: object, problem: str) -> None:
        """Have the row fail, and go on, unless something is so."""
        if not is_so and problem not in self.problems:
            self.problems.append(problem)

    async def until(
        self,
        is_so: Callable[[], bool | Awaitable[bool]],
        problem: str,
        limit_s: float,
    ) -> None:
        """Wait until something is so.

        Raises:
            RowFailed: it is not so in time.
        """
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    found = is_so()
                    if found if isinstance(found, bool) else await found:
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise RowFailed(f"{problem}, after {limit_s:g} s") from None

    def entries(self) -> ledger.Entries:
        """Read what the engines did."""
        return ledger.read(self.ledger)

    def _rss_mb(self) -> float:
        return max((server.rss_mb for server in self.servers), default=0.0)

    async def _sample(self) -> None:
        while True:
            self.memory.peak = max(self.memory.peak, self._rss_mb())
            await asyncio.sleep(_SAMPLE_S)
