"""`GrpcTransport` before several servers: who gets the calls, and what a change costs."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import pytest

from kotaemon_grpc.client import CallError, ConfigurationError, TlsFiles, UnavailableError
from kotaemon_grpc.client.channels import GrpcTransport

from .servers import (
    BIDI,
    SERVER_STREAM,
    UNARY,
    EchoServer,
    Question,
    ask,
    issue,
    server_credentials,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[EchoServer]]]:
    """Start a server: `await start(credentials=…, host=…)`."""
    started: list[EchoServer] = []

    async def start_server(**options: Any) -> EchoServer:
        started.append(EchoServer(**options))
        await started[-1].start()
        return started[-1]

    yield start_server
    for server in started:
        await server.server.stop(None)


@pytest.fixture
async def three(start: Callable[..., Awaitable[EchoServer]]) -> list[EchoServer]:
    return [await start() for _ in range(3)]


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Awaitable[GrpcTransport]]]:
    """Open a transport, and wait until all servers that can be reached are."""
    opened: list[GrpcTransport] = []

    async def open_transport(*servers: EchoServer, **options: Any) -> GrpcTransport:
        targets = [server.target for server in servers]
        opened.append(GrpcTransport(targets, **{"tls": None, **options}))
        await opened[-1].replace_targets(targets)
        return opened[-1]

    yield open_transport
    for transport in opened:
        await transport.close()


async def calls_of(servers: list[EchoServer], transport: GrpcTransport, count: int) -> list[int]:
    """Make so many calls, one after the other, and return what each server got."""
    before = [server.calls for server in servers]
    for number in range(count):
        assert (await transport.unary(UNARY, ask(str(number)))).question == str(number)
    return [server.calls - had for server, had in zip(servers, before, strict=True)]


async def until_it_fails(transport: GrpcTransport) -> None:
    """Make calls until one fails."""
    while True:
        await transport.unary(UNARY, ask("a"))


async def until_avoided(server: EchoServer, transport: GrpcTransport) -> None:
    """Make calls until a server gets none of ten."""
    had = -1
    while server.calls != had:
        had = server.calls
        for _ in range(10):
            with suppress(UnavailableError):  # the news may come while a call is on its way
                await transport.unary(UNARY, ask("a"))


class Load:
    """Calls of two kinds, or only dialogues, on eight tasks until one fails."""

    def __init__(
        self, transport: GrpcTransport, attempts: int = 1, *, dialogues: bool = False
    ) -> None:
        self.sent = 0
        self.failed: list[BaseException] = []
        self._transport = transport
        self._attempts = attempts
        self._kinds = (self._dialogue,) * 2 if dialogues else (self._one, self._several)
        self._is_over = False
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._run(kind)) for kind in self._kinds * 4]
        await self.more(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait until so many further calls have ended."""
        until = self.sent + count
        while self.sent < until and not self._is_over:
            self._ended.clear()
            await self._ended.wait()

    async def _run(self, make: Callable[[], Awaitable[None]]) -> None:
        while not self._is_over:
            await self._made(make)

    async def _made(self, make: Callable[[], Awaitable[None]]) -> None:
        for attempt in range(self._attempts):
            try:
                await make()
            except CallError as error:
                if attempt + 1 == self._attempts:
                    self.failed.append(error)
                    self._is_over = True
            else:
                break
        self.sent += 1
        self._ended.set()

    async def _one(self) -> None:
        assert (await self._transport.unary(UNARY, ask("a"))).question == "a"

    async def _several(self) -> None:
        stream = self._transport.server_stream(SERVER_STREAM, ask("a b c"))
        assert [response.question async for response in stream] == ["a", "b", "c"]

    async def _dialogue(self) -> None:
        dialogue = self._transport.bidi(BIDI, each("a", "b"))
        assert [response.question async for response in dialogue] == ["a", "b"]


async def each(*words: str) -> AsyncIterator[Question]:
    for word in words:
        yield ask(word)


async def test_servers_take_calls_in_turn(three: list[EchoServer], connect: Any) -> None:
    transport = await connect(*three)
    assert await calls_of(three, transport, 30) == [10, 10, 10]


async def test_a_server_that_does_not_serve_gets_no_new_calls_and_keeps_its_old_ones(
    three: list[EchoServer], connect: Any
) -> None:
    transport = await connect(*three)
    waiting = [asyncio.create_task(transport.unary(UNARY, ask("wait"))) for _ in range(3)]
    for server in three:
        await server.began.wait()
    await three[0].serve(serving=False)
    await until_avoided(three[0], transport)
    assert await calls_of(three, transport, 30) == [0, 15, 15]
    three[0].released.set()
    three[1].released.set()
    three[2].released.set()
    assert [answer.question for answer in await asyncio.gather(*waiting)] == ["wait"] * 3
    await three[0].serve(serving=True)
    while not (await calls_of(three, transport, 3))[0]:
        pass
    assert await calls_of(three, transport, 30) == [10, 10, 10]


async def test_no_call_is_made_while_no_server_serves(
    three: list[EchoServer], connect: Any
) -> None:
    transport = await connect(*three)
    for server in three:
        await server.serve(serving=False)
    # The first refusal may come while another server has still to be heard of.
    for _ in three:
        with pytest.raises(UnavailableError, match="backend unhealthy"):
            await until_it_fails(transport)
    before = [server.calls for server in three]
    with pytest.raises(UnavailableError):
        await transport.unary(UNARY, ask("a"))
    assert [server.calls for server in three] == before


async def test_a_server_that_dies_fails_no_call_twice(
    three: list[EchoServer], connect: Any
) -> None:
    transport = await connect(*three)
    async with Load(transport, attempts=3) as load:
        await three[1].server.stop(None)
        await load.more(300)
    assert load.failed == []
    assert await calls_of(three, transport, 30) == [15, 0, 15]


async def test_targets_that_were_never_there_are_passed_over(start: Any, connect: Any) -> None:
    server, gone = await start(), await start()
    await gone.server.stop(None)
    transport = await connect(gone, server)
    assert await calls_of([gone, server], transport, 10) == [0, 10]


async def test_the_first_call_waits_for_a_server_that_can_be_reached(
    start: Any,
) -> None:
    server = await start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        targets = [f"127.0.0.1:{silent.getsockname()[1]}", "127.0.0.1:1", server.target]
        transport = GrpcTransport(targets, tls=None)
        assert (await transport.unary(UNARY, ask("a"))).question == "a"
        await transport.close()


async def test_targets_are_replaced_under_load_without_a_failure(
    three: list[EchoServer], start: Any, connect: Any
) -> None:
    transport = await connect(*three)
    fresh = [await start(), three[2]]
    dialogues = [transport.bidi(BIDI, each("a", "wait", "b")) for _ in range(3)]
    for dialogue in dialogues:
        assert (await anext(dialogue)).question == "a"
    async with Load(transport) as load:
        for servers in (fresh, three, fresh) * 5:
            await transport.replace_targets([server.target for server in servers])
            await load.more(20)
    assert load.failed == []
    assert await calls_of([*fresh, *three[:2]], transport, 10) == [5, 5, 0, 0]
    for server in three:
        server.released.set()
    for dialogue in dialogues:
        assert [response.question async for response in dialogue] == ["wait", "b"]


async def test_no_dialogue_fails_to_begin_while_servers_come_and_go(
    three: list[EchoServer], connect: Any
) -> None:
    transport = await connect(*three)
    async with Load(transport, dialogues=True) as load:
        for number in range(60):
            server = three[number % 3]
            await server.serve(serving=False)
            await load.more(15)
            await server.serve(serving=True)
            await load.more(15)
    assert load.failed == []


async def test_targets_that_cannot_be_reached_leave_the_earlier_ones(
    three: list[EchoServer], connect: Any
) -> None:
    transport = await connect(*three)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await transport.replace_targets(["127.0.0.1:1"])
    with pytest.raises(ConfigurationError):
        await transport.replace_targets([])
    assert await calls_of(three, transport, 30) == [10, 10, 10]


async def test_targets_are_replaced_also_when_none_can_be_reached(start: Any, connect: Any) -> None:
    first, second = await start(), await start()
    transport = await connect(first)
    await first.server.stop(None)
    with pytest.raises(UnavailableError):
        await until_it_fails(transport)
    await transport.replace_targets([second.target])
    assert await calls_of([second], transport, 3) == [3]


class Forwarder:
    """One address for several servers: what stands before them sends new connections to one."""

    def __init__(self, server: EchoServer) -> None:
        self.server = server

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        self.target = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            writer.close()
            back.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
    writer.close()


async def test_behind_one_address_another_server_is_found_when_the_first_drains(
    start: Any,
) -> None:
    first, second = await start(), await start()
    async with Forwarder(first) as forwarder:
        transport = GrpcTransport(forwarder.target, tls=None)
        waiting = asyncio.create_task(transport.unary(UNARY, ask("wait")))
        await first.began.wait()
        forwarder.server = second
        async with Load(transport, attempts=2) as load:
            await first.serve(serving=False)
            await second.began.wait()
            await load.more(20)
        assert load.failed == []
        first.released.set()
        assert (await waiting).question == "wait"
        assert await calls_of([first, second], transport, 10) == [0, 10]
        await transport.close()


@pytest.fixture
async def named(start: Any, pki_dir: Path) -> list[EchoServer]:
    """Two servers whose certificates are for the name of the one and the address of the other."""
    issue(pki_dir, "by-name", "localhost")
    issue(pki_dir, "by-address", "127.0.0.1")
    return [
        await start(credentials=server_credentials(pki_dir, "by-name"), host="localhost"),
        await start(credentials=server_credentials(pki_dir, "by-address")),
    ]


async def test_each_server_is_checked_by_the_name_in_its_target(
    named: list[EchoServer], connect: Any, pki_dir: Path
) -> None:
    transport = await connect(*named, tls=TlsFiles(pki_dir / "ca.pem"))
    assert await calls_of(named, transport, 10) == [5, 5]


async def test_a_name_can_be_given_for_all(
    named: list[EchoServer], connect: Any, pki_dir: Path
) -> None:
    transport = await connect(*named, tls=TlsFiles(pki_dir / "ca.pem"), server_name="localhost")
    assert await calls_of(named, transport, 10) == [10, 0]


async def test_a_server_of_another_name_is_not_called(
    named: list[EchoServer], pki_dir: Path
) -> None:
    target = f"127.0.0.1:{named[0].port}"
    transport = GrpcTransport(target, tls=TlsFiles(pki_dir / "ca.pem"))
    with pytest.raises(UnavailableError):
        await transport.unary(UNARY, ask("a"))
    await transport.close()
    assert named[0].calls == 0


@pytest.mark.parametrize("target", ["10.0.0.1:1", "h.example:1"])
async def test_secrets_are_not_sent_in_plaintext_to_other_machines(
    target: str, pki_dir: Path
) -> None:
    with pytest.raises(ConfigurationError, match="plaintext"):
        GrpcTransport(["127.0.0.1:1", target], tls=None, carries_secrets=True)
    transport = GrpcTransport("localhost:1", tls=None, carries_secrets=True)
    with pytest.raises(ConfigurationError, match="plaintext"):
        await transport.replace_targets([target])
    await transport.close()
    over_tls = GrpcTransport(target, tls=TlsFiles(pki_dir / "ca.pem"), carries_secrets=True)
    await over_tls.close()
