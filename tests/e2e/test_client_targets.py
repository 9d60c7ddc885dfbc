"""`AgentClient` before several real servers, under load while they come and go."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

import pytest

from kotaemon_grpc.client import AgentClient, Answer, CallError, TlsFiles
from kotaemon_grpc.client.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

QUESTION = "Who keeps the spare key?"
COMMAND = [sys.executable, "-c", "from kotaemon_grpc.cli import main; main()"]


class Load:
    """Questions of both kinds on six tasks, until something fails or the block ends."""

    def __init__(self, client: AgentClient) -> None:
        self.answered = 0
        self.failed: list[CallError] = []
        self._client = client
        self._is_over = False
        self._ended = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(ask)) for ask in (self._unary, self._stream) * 3
        ]
        await self.more(30)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_over = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Wait until so many further questions are answered."""
        until = self.answered + count
        while self.answered < until and not self.failed:
            self._ended.clear()
            await self._ended.wait()

    async def _run(self, ask: Callable[[], Any]) -> None:
        while not self._is_over and not self.failed:
            try:
                await ask()
                self.answered += 1
            except CallError as error:
                self.failed.append(error)
            self._ended.set()

    async def _unary(self) -> None:
        assert (await self._client.ask(QUESTION)).text

    async def _stream(self) -> None:
        try:
            *_, answer = [event async for event in self._client.stream(QUESTION)]
        except CallError as error:
            if not error.sequence_number:
                raise
            return  # of what has begun the caller is told, and nothing is begun anew
        assert isinstance(answer, Answer)


@pytest.fixture
def servers(start: Callable[..., Any], tmp_path: Path) -> list[Any]:
    """Three servers, each with a store of its own."""
    return [start(data_dir=tmp_path / f"data{number}") for number in range(3)]


def host_name(server: Any) -> str:
    """Name a server by its host name in place of its address."""
    return server.address.replace("127.0.0.1", "localhost")


async def test_a_server_that_is_killed_fails_no_call(servers: list[Any]) -> None:
    targets = [servers[0].address, host_name(servers[1]), f"dns:///{host_name(servers[2])}"]
    async with AgentClient(targets, tls=servers[0].tls) as client, Load(client) as load:
        await asyncio.to_thread(servers[1].kill)
        await load.more(100)
    assert load.failed == []


async def test_a_server_that_stops_fails_no_call(start: Callable[..., Any], tmp_path: Path) -> None:
    servers = [
        start("--set=server.shutdown_delay_s=1.0", data_dir=tmp_path / f"data{number}")
        for number in range(2)
    ]
    targets = [server.address for server in servers]
    async with AgentClient(targets, tls=servers[0].tls) as client, Load(client) as load:
        assert await asyncio.to_thread(servers[0].stop) == 0
        await load.more(30)
    assert load.failed == []


async def test_servers_are_exchanged_under_load_without_a_failure(servers: list[Any]) -> None:
    names = [host_name(server) for server in servers]
    async with AgentClient(names[:1], tls=servers[0].tls) as client, Load(client) as load:
        for targets in (names[1:], names, names[2:], names[:2], names[1:2]):
            await client.replace_targets(targets)
            await load.more(20)
    assert load.failed == []


class Told(Hooks):
    """Keeps what is told of files."""

    def __init__(self) -> None:
        self.reloads: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def on_reload(self, what: str, problem: str) -> None:
        self.reloads.put_nowait((what, problem))


@pytest.fixture
def own_files(certs: Path, tmp_path: Path) -> Iterator[TlsFiles]:
    """The client's files, in a directory where they may be replaced."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("ca.pem", "client.pem", "client-key.pem"):
        shutil.copy(certs / name, own / name)
    return TlsFiles.in_directory(own)


@pytest.fixture
def renewed(certs: Path, tmp_path: Path) -> TlsFiles:
    """Another certificate of the same client."""
    issue = ["certs", "issue", "renewed", f"--dir={certs}", f"--out={tmp_path}", "--usage=client"]
    spiffe = "--spiffe=spiffe://kotaemon-grpc.dev/developer"
    subprocess.run([*COMMAND, *issue, spiffe], check=True, capture_output=True)
    return TlsFiles(certs / "ca.pem", tmp_path / "renewed.pem", tmp_path / "renewed-key.pem")


async def test_certificates_are_exchanged_under_load_without_a_failure(
    servers: list[Any], own_files: TlsFiles, renewed: TlsFiles
) -> None:
    told = Told()
    targets = [server.address for server in servers]
    async with AgentClient(targets, tls=own_files, hooks=[told]) as client, Load(client) as load:
        renewed.certificate.replace(own_files.certificate)
        await load.more(10)
        renewed.key.replace(own_files.key)
        assert await told.reloads.get() == ("tls", "")
        await load.more(50)
    assert load.failed == []
