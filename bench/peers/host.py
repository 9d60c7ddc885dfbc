"""What all peers share: their command line, their event loop, their TLS, how they start and end."""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

OPTIONS = (("grpc.so_reuseport", 0),)
"""A second server on a port must fail, not share its connections."""

SAMPLED = 0.1
"""The share of calls that are traced."""

_LISTED_FUNCTIONS = 40


@dataclass(frozen=True, slots=True)
class Setting:
    """What a peer is told.

    Args:
        directory: of certificates and keys, as `material.py` fills it.
        log: the file that takes a line a call.
        otlp: host and port of the receiver of traces.
    """

    directory: Path
    log: Path
    otlp: str


def run(serve: Callable[[Setting], Coroutine[Any, Any, None]]) -> None:
    """Serve until stdin ends; with `--profile`, show on stderr where the time went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--otlp", required=True)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    setting = Setting(arguments.directory, arguments.log, arguments.otlp)
    if not arguments.profile:
        uvloop.run(serve(setting))
        return
    profile = cProfile.Profile()
    profile.runcall(uvloop.run, serve(setting))
    pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(_LISTED_FUNCTIONS)


async def until_told(port: int) -> None:
    """Say which port is served, and wait for the end of stdin."""
    print(json.dumps({"port": port}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    await reader.read()


def credentials(directory: Path) -> grpc.ServerCredentials:
    """Make the credentials of a server that requires clients' certificates."""
    return grpc.ssl_server_credentials(
        [((directory / "server-key.pem").read_bytes(), (directory / "server.pem").read_bytes())],
        root_certificates=(directory / "ca.pem").read_bytes(),
        require_client_auth=True,
    )


async def serve_grpc(
    setting: Setting,
    handlers: tuple[grpc.GenericRpcHandler, ...],
    interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
) -> None:
    """Serve handlers over mTLS until told to end."""
    server = grpc.aio.server(interceptors=interceptors, options=OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    await serve_until_told(server, setting)


async def serve_until_told(server: grpc.aio.Server, setting: Setting) -> None:
    """Serve over mTLS what a server has until told to end."""
    port = server.add_secure_port("127.0.0.1:0", credentials(setting.directory))
    await server.start()
    try:
        await until_told(port)
    finally:
        await server.stop(None)
