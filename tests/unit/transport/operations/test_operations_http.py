"""How the operations server treats connections, whatever its pages are."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.operations import server_tls
from kotaemon_grpc.transport.operations.http import HttpServer, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import h11

LOOPBACK = Address("127.0.0.1", 0)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def context(pki_dir: Path) -> ssl.SSLContext:
    return server_tls(pki_dir / "server.pem", pki_dir / "server-key.pem").context


async def hello(_request: h11.Request) -> Reply:
    return Reply(HTTPStatus.OK, b"hello")


@contextlib.asynccontextmanager
async def serving(server: HttpServer) -> AsyncIterator[Address]:
    bound = await server.start()
    try:
        yield bound
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def connected(
    bound: Address, sent: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(bound.host, bound.port)
    try:
        writer.write(sent)
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.contextmanager
def no_more_file_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:  # all below it are taken
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno() + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def all_of(reader: asyncio.StreamReader) -> bytes:
    """Read to the end; a connection that is closed before it is taken up may be reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


async def test_connections_beyond_the_bound_are_closed_until_one_ends() -> None:
    server = HttpServer(LOOPBACK, hello, flag="--x", max_connections=2)
    async with serving(server) as bound, connected(bound):
        async with connected(bound) as (second, writer):
            async with connected(bound, GET) as (third, _):
                assert await all_of(third) == b""
            writer.write(GET)
            assert (await all_of(second)).endswith(b"hello")
        # The server learns of the end when it reads on: until then it refuses.
        reply = b""
        while not reply:
            async with connected(bound, GET) as (fourth, _):
                reply = await all_of(fourth)
        assert reply.endswith(b"hello")


async def test_a_handshake_that_is_not_made_counts_as_a_connection(
    context: ssl.SSLContext,
) -> None:
    server = HttpServer(LOOPBACK, hello, flag="--x", tls=context, max_connections=1)
    async with serving(server) as bound, connected(bound), connected(bound) as (second, _):
        assert await all_of(second) == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_a_slow_peer_is_cut_off(sent: bytes) -> None:
    server = HttpServer(LOOPBACK, hello, flag="--x", timeout_s=0.05)
    async with serving(server) as bound, connected(bound, sent) as (reader, _):
        assert await all_of(reader) == b""


async def test_a_slow_handshake_is_cut_off(context: ssl.SSLContext) -> None:
    server = HttpServer(LOOPBACK, hello, flag="--x", tls=context, timeout_s=0.05)
    async with serving(server) as bound, connected(bound, b"\x16\x03\x01") as (reader, _):
        assert await all_of(reader) == b""


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async def much(_request: h11.Request) -> Reply:
        return Reply(HTTPStatus.OK, b"x" * 50_000_000)

    server = HttpServer(LOOPBACK, much, flag="--x", timeout_s=0.05, max_connections=1)
    async with serving(server) as bound, connected(bound, GET) as (reader, writer):
        writer.transport.pause_reading()
        status = b""
        while not status:  # the place of the first is free only when it was cut off
            async with connected(bound, b"nonsense\r\n\r\n") as (other, _):
                status = await all_of(other)
        assert status.startswith(b"HTTP/1.1 400 ")
        writer.transport.resume_reading()
        assert len(await all_of(reader)) < 50_000_000


async def test_a_body_is_ignored_and_the_reply_still_arrives() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n"
    async with (
        serving(HttpServer(LOOPBACK, hello, flag="--x")) as bound,
        connected(bound, head + b"x" * 900_000) as (reader, _),
    ):
        assert (await reader.read()).endswith(b"hello")


async def test_a_head_without_end_is_refused() -> None:
    async with (
        serving(HttpServer(LOOPBACK, hello, flag="--x")) as bound,
        connected(bound, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000) as (reader, _),
    ):
        assert (await reader.read()).startswith(b"HTTP/1.1 431")


async def test_a_stop_does_not_wait_for_a_peer_that_says_nothing() -> None:
    async with serving(HttpServer(LOOPBACK, hello, flag="--x")) as bound:
        reader, writer = await asyncio.open_connection(bound.host, bound.port)
        writer.write(b"GET /")
        await writer.drain()
    assert await all_of(reader) == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(bound.host, bound.port)


async def test_every_address_of_a_name_is_served() -> None:
    async with (
        serving(HttpServer(Address("localhost", 0), hello, flag="--x")) as bound,
        connected(bound, GET) as (reader, _),
    ):
        assert bound.host == "localhost"
        assert (await reader.read()).endswith(b"hello")


async def test_a_server_without_file_descriptors_tries_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = asyncio.Event()
    caplog.handler.addFilter(lambda _record: told.set() or True)
    async with serving(HttpServer(LOOPBACK, hello, flag="--x")) as bound:
        with socket.socket() as peer:
            peer.settimeout(0)
            with no_more_file_descriptors():
                await asyncio.get_running_loop().sock_connect(peer, (bound.host, bound.port))
                await told.wait()
                for _ in range(10):
                    await asyncio.sleep(0)  # a turn of the loop, in which it could try at once
            (line,) = caplog.messages
            assert "Too many open files" in line
            reader, writer = await asyncio.open_connection(sock=peer)
            writer.write(GET)
            assert (await reader.read()).endswith(b"hello")
            writer.close()
            await writer.wait_closed()


async def test_a_body_over_tls_is_ignored_and_the_reply_still_arrives(
    context: ssl.SSLContext, pki_dir: Path
) -> None:
    client = ssl.create_default_context(cafile=pki_dir / "ca.pem")
    async with serving(HttpServer(LOOPBACK, hello, flag="--x", tls=context)) as bound:
        reader, writer = await asyncio.open_connection(bound.host, bound.port, ssl=client)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        writer.write(head + b"x" * 100_000)
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
