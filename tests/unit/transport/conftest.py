from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.transport import listener, tls
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.health import HealthReporter
from kotaemon_grpc.transport.rotation import Rotation
from kotaemon_grpc.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

LOOPBACK = Address("127.0.0.1", 0)
BOUNDS = listener.Bounds(4 * 1024 * 1024, max_concurrent_streams=100, max_connections=100)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def serve(pki_dir: Path) -> Callable[..., Any]:
    """Start a real mTLS server; yields its address and its health reporter."""

    @asynccontextmanager
    async def start(
        handlers: Mapping[str, grpc.RpcMethodHandler] = MappingProxyType({}),
        address: Address = LOOPBACK,
    ) -> AsyncIterator[tuple[Address, HealthReporter]]:
        material = tls.load(pki_dir / "server.pem", pki_dir / "server-key.pem", pki_dir / "ca.pem")
        reporter = HealthReporter()
        server = Server({**handlers, **reporter.handlers()}, listener.server_options(BOUNDS))
        bound = listener.bind(server, address, Rotation(lambda: material).credentials())
        await server.start()
        try:
            yield bound, reporter
        finally:
            reporter.end_watches()
            await server.stop(None)

    return start


@pytest.fixture
def connect(pki_dir: Path) -> Callable[..., grpc.aio.Channel]:
    """Open a channel with a client's certificate of the PKI; None goes without one."""

    def open_channel(
        address: Address, name: str | None = "client", directory: Path = pki_dir
    ) -> grpc.aio.Channel:
        pair = (None, None)
        if name is not None:
            pair = (
                (directory / f"{name}-key.pem").read_bytes(),
                (directory / f"{name}.pem").read_bytes(),
            )
        ca = (pki_dir / "ca.pem").read_bytes()
        return grpc.aio.secure_channel(str(address), grpc.ssl_channel_credentials(ca, *pair))

    return open_channel
