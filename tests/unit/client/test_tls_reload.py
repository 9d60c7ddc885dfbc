"""`GrpcTransport` while the files of TLS are replaced."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import ConfigurationError, TlsFiles
from kotaemon_grpc.client.channels import GrpcTransport
from kotaemon_grpc.transport import pki

from .servers import UNARY, EchoServer, ask, issue, server_credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Client:
    """A transport whose files can be replaced, and what it told of them."""

    def __init__(self, server: EchoServer, pki_dir: Path, directory: Path) -> None:
        self.pki_dir = pki_dir
        self.directory = directory
        self.server = server
        self.clock = Clock()
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        issue(pki_dir, "first")
        issue(pki_dir, "second")
        directory.mkdir()
        shutil.copy(pki_dir / "ca.pem", directory / "ca.pem")
        self.install("first")
        self.transport = GrpcTransport(
            server.target,
            tls=TlsFiles.in_directory(directory),
            clock=self.clock,
            on_reload=lambda *told: self.told.put_nowait(told),
        )

    def install(self, name: str, source: Path | None = None) -> None:
        """Put a certificate and its key in the place of those that are there."""
        self.replace(f"{name}.pem", "client.pem", source)
        self.replace(f"{name}-key.pem", "client-key.pem", source)

    def replace(self, name: str, place: str, source: Path | None = None) -> None:
        new = self.directory / "new"
        new.write_bytes(((source or self.pki_dir) / name).read_bytes())
        new.replace(self.directory / place)

    async def call(self) -> str:
        """Make a call, and return whose certificate the server saw."""
        await self.transport.unary(UNARY, ask("a"))
        return self.server.certificates[-1]

    async def look(self) -> str:
        """Let two seconds pass and make a call, during which the files are looked at."""
        self.clock.now_s += 2
        return await self.call()

    async def until_told(self) -> tuple[str, str]:
        """Make calls until something is told of the files."""
        while self.told.empty():
            await self.call()
        return self.told.get_nowait()


@pytest.fixture
async def client(pki_dir: Path, tmp_path: Path) -> AsyncIterator[Client]:
    server = EchoServer(server_credentials(pki_dir, mutual=True))
    await server.start()
    client = Client(server, pki_dir, tmp_path / "client")
    yield client
    await client.transport.close()
    await server.server.stop(None)


async def test_new_files_are_used_without_a_failed_call(client: Client) -> None:
    assert await client.call() == "first"
    waiting = asyncio.create_task(client.transport.unary(UNARY, ask("wait")))
    await client.server.began.wait()
    client.install("second")
    assert await client.call() == "first"
    await client.look()
    assert await client.until_told() == ("tls", "")
    assert await client.call() == "second"
    client.server.released.set()
    assert (await waiting).question == "wait"


async def test_files_that_hold_the_same_are_not_told(client: Client) -> None:
    await client.call()
    client.install("first")
    assert await client.look() == "first"
    for _ in range(20):
        await client.call()
    client.install("second")
    while client.told.empty():
        await client.look()
    assert await client.call() == "second"


async def test_a_directory_that_a_link_points_to_may_be_exchanged(
    pki_dir: Path, tmp_path: Path
) -> None:
    server = EchoServer(server_credentials(pki_dir, mutual=True))
    await server.start()
    old = Client(server, pki_dir, tmp_path / "old")
    new = tmp_path / "new"
    shutil.copytree(old.directory, new)
    link = tmp_path / "link"
    link.symlink_to(old.directory)
    told = asyncio.Queue[Any]()
    transport = GrpcTransport(
        server.target,
        tls=TlsFiles.in_directory(link),
        clock=old.clock,
        on_reload=lambda *what: told.put_nowait(what),
    )
    await transport.unary(UNARY, ask("a"))
    for place in ("client.pem", "client-key.pem"):
        shutil.copy(pki_dir / place.replace("client", "second"), new / place)
    (tmp_path / "next").symlink_to(new)
    (tmp_path / "next").replace(link)
    old.clock.now_s += 2
    while told.empty():
        await transport.unary(UNARY, ask("a"))
    await transport.unary(UNARY, ask("a"))
    assert server.certificates[-1] == "second"
    await transport.close()
    await old.transport.close()
    await server.server.stop(None)


async def test_files_that_are_half_replaced_are_no_problem_at_first(client: Client) -> None:
    await client.call()
    client.replace("second.pem", "client.pem")
    assert await client.look() == "first"
    await asyncio.to_thread(client.replace, "second-key.pem", "client-key.pem")
    await client.look()
    assert await client.until_told() == ("tls", "")
    assert await client.call() == "second"


async def test_files_that_stay_wrong_are_told_once_and_the_last_good_ones_used(
    client: Client,
) -> None:
    await client.call()
    client.replace("second.pem", "client.pem")
    while client.told.empty():
        assert await client.look() == "first"
    what, problem = client.told.get_nowait()
    assert what == "tls"
    assert "client-key.pem" in problem
    for _ in range(3):
        assert await client.look() == "first"
    assert client.told.empty()
    client.install("second")
    await client.look()
    assert await client.until_told() == ("tls", "")
    assert await client.call() == "second"


@pytest.mark.parametrize("harm", ["removed", "emptied"])
async def test_files_that_vanish_are_told(client: Client, harm: str) -> None:
    await client.call()
    path = client.directory / "ca.pem"
    content = path.read_bytes()
    path.unlink() if harm == "removed" else path.write_bytes(b"")
    while client.told.empty():
        assert await client.look() == "first"
    assert "ca.pem" in client.told.get_nowait()[1]
    path.write_bytes(content)
    for _ in range(3):
        assert await client.look() == "first"
    assert client.told.empty()


async def test_files_that_no_server_takes_leave_the_connection_that_works(
    client: Client, tmp_path: Path
) -> None:
    await client.call()
    strangers = tmp_path / "strangers"
    pki.ensure(strangers)
    client.install("client", strangers)
    await client.look()
    what, problem = await client.until_told()
    assert (what, problem.partition(";")[0]) == ("tls", "no server takes the new files")
    assert await client.look() == "first"
    assert client.told.empty()
    client.clock.now_s += 28
    await client.call()
    assert (await client.until_told())[1] == problem
    client.install("second")
    client.clock.now_s += 30
    await client.call()
    assert await client.until_told() == ("tls", "")
    assert await client.call() == "second"


def test_a_certificate_needs_its_key(pki_dir: Path) -> None:
    alone = {"ca": pki_dir / "ca.pem"}
    for name in ("certificate", "key"):
        with pytest.raises(ConfigurationError, match="both or neither"):
            TlsFiles(**alone, **{name: pki_dir / "client.pem"}).credentials()


def test_a_key_is_not_shown(pki_dir: Path) -> None:
    material = TlsFiles.in_directory(pki_dir).read()
    assert material.key is not None
    assert material.key.decode().splitlines()[1] not in repr(material)
