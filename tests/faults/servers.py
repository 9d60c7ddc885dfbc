"""Servers in processes of their own: started, stopped, killed, halted and measured."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authority import Secret

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
_POLL_S = 0.05
_SCRIPT = Path(__file__).with_name("server.py")
_BYTES_PER_PAGE = os.sysconf("SC_PAGE_SIZE")
_PORTS = range(20_000, 32_000)  # below those that Linux takes for outgoing connections
_MB = 1e6


class RowFailed(Exception):
    """A row cannot go on; the words say why."""


class RowSkipped(Exception):
    """A row cannot be run on this machine; the words say why."""


def free_port() -> int:
    """Find a port that a server can have again and again: no connection takes it meanwhile."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - no secret
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _address() -> str:
    return f"127.0.0.1:{free_port()}"


@dataclass
class Server:
    """One server, at the same addresses each time that it is started.

    Args:
        directory: its own, for data and logs.
        secret: its certificate, its key and the CAs of its clients.
        ledger: where its engine writes.
        settings: by dotted key, beside those that all have.
        command: what comes before the interpreter; it must not fork.
        environ: further variables.
    """

    directory: Path
    secret: Secret
    ledger: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    address: str = field(default_factory=_address)
    health_address: str = field(default_factory=_address)
    _process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> Path:
        return self.directory / "log.jsonl"

    @property
    def errors(self) -> Path:
        return self.directory / "errors.txt"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def rss_mb(self) -> float:
        """The memory that it holds now; 0 if it does not run."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except (OSError, AssertionError):
            return 0.0
        return int(pages) * _BYTES_PER_PAGE / _MB

    async def start(self) -> None:
        """Start it, and wait until its health is SERVING."""
        self.data.mkdir(parents=True, exist_ok=True)
        settings = self.directory / "settings.json"
        settings.write_text(json.dumps(self._all_settings()))
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                sys.executable,
                str(_SCRIPT),
                str(settings),
                str(self.ledger),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=errors,
                # Core would tell of each handshake and frame that it refuses.
                env={**os.environ, "GRPC_VERBOSITY": "NONE", **self.environ},
            )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not await self._is_serving():
                    if not self.is_running:
                        raise RowFailed(f"a server ended at its start: {self.last_words()}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise RowFailed(f"a server does not serve: {self.last_words()}") from None

    async def stop(self) -> int:
        """End it as an orchestrator does, and return its exit status."""
        self.signal(signal.SIGTERM)
        return await self._wait()

    async def kill(self) -> None:
        """End it with no chance to clean up."""
        self.signal(signal.SIGKILL)
        await self._wait()

    def signal(self, number: int) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    def last_words(self) -> str:
        """What it said last, for an error message."""
        lines = self.errors.read_text(errors="replace").splitlines()[-3:]
        lines += self.log.read_text(errors="replace").splitlines()[-2:]
        return " | ".join(line[:300] for line in lines)

    async def _wait(self) -> int:
        assert self._process is not None
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                return await self._process.wait()
        except TimeoutError:
            raise RowFailed(f"a server did not end: {self.last_words()}") from None

    async def _is_serving(self) -> bool:
        async with grpc.aio.insecure_channel(self.health_address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=2
                )
            except grpc.aio.AioRpcError:
                return False
            return answer.status == health_pb2.HealthCheckResponse.SERVING

    def _all_settings(self) -> dict[str, Any]:
        return {
            "server.listen": self.address,
            "server.health_listen": self.health_address,
            "operations.listen": "127.0.0.1:0",
            "tls.certificate": str(self.secret.path("tls.crt")),
            "tls.key": str(self.secret.path("tls.key")),
            "tls.client_ca": str(self.secret.path("ca.crt")),
            "storage.data_dir": str(self.data),
            "policy.bindings": [{"principals": ["dns:*", "cn:*", "*"], "roles": ["editor"]}],
            "log.sample_ok": 0.0,
            **self.settings,
        }
