"""Clients that mean harm, while one that does not goes on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servers import RowFailed, free_port

from kotaemon_grpc.auth.key_file import KeyFile
from kotaemon_grpc.client import AgentClient, CallError
from kotaemon_grpc.transport.certificate import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lab import Lab

_SCRIPT = Path(__file__).with_name("attack.py")
_TESTS = Path(__file__).parents[1]
_END_S = 60.0
_KEY_LIFE = timedelta(days=1)
_PLACES = 200  # more than the slow readers take: their number is not what the row is about
_SLOW_READER_S = 3.0
_STORM_STREAMS = 10_000
_STORM_AT_ONCE = 60
_BACK_TO = 1.10


async def attacked(name: str, lab: Lab) -> None:
    """Attack a listener that asks for certificates, with one, and one that does not, without."""
    keys = lab.directory / "keys.json"
    KeyFile(keys).create("nobody", life=_KEY_LIFE)
    open_to_all = f"127.0.0.1:{free_port()}"
    settings = {
        "identity.api_keys_file": str(keys),
        "server.listeners": [{"listen": open_to_all, "credentials": ["api_key"]}],
    }
    [server] = await lab.start(settings=settings)
    with_certificate, ca = _target(lab, server.address), lab.client_secret.path("ca.crt")
    async with (
        lab.steady_load(server.address) as load,
        _attack(lab, name, with_certificate, f"{open_to_all},{ca}", server.health_address),
    ):
        await load.enough()


async def slow_reader(lab: Lab) -> None:
    settings = {"limits.slow_reader_s": _SLOW_READER_S, "limits.engine_places": _PLACES}
    [server] = await lab.start(settings=settings)
    async with (
        lab.steady_load(server.address) as load,
        _attack(lab, "slow_reader", _target(lab, server.address)),
    ):
        await load.enough()


async def cancel_storm(lab: Lab) -> None:
    """Give up streams before the first piece, after it, and after a few."""
    settings = {"limits.engine_places": _PLACES, "limits.calls_per_second": 0.0}
    [server] = await lab.start(settings=settings)
    streams = iter(range(_STORM_STREAMS))
    refused = 0

    async def give_up(client: AgentClient) -> None:
        nonlocal refused
        for number in streams:
            events = client.stream(f"stream {next(lab.numbers)}")
            try:
                for _ in range(number % 3):
                    await anext(events)
            except CallError:
                refused += 1  # a storm may be, its neighbours may not
            await events.aclose()

    async with (
        lab.steady_load(server.address) as load,
        AgentClient(server.address, tls=lab.secret("attacker", Usage.CLIENT).tls) as client,
    ):
        await asyncio.gather(*(give_up(client) for _ in range(_STORM_AT_ONCE)))
        await load.enough()
    before, after = lab.memory.before, lab.memory.after
    lab.expect(after <= before * _BACK_TO, f"{after:.0f} MB are held after it, {before:.0f} before")
    lab.notes.append(f"{_STORM_STREAMS} streams given up, {refused} of them refused")


def _target(lab: Lab, address: str) -> str:
    """Give the attacker a certificate of its own: it is no caller that others depend on."""
    own = lab.secret("attacker", Usage.CLIENT).tls
    return f"{address},{own.ca},{own.certificate},{own.key}"


@asynccontextmanager
async def _attack(lab: Lab, name: str, *targets: str) -> AsyncIterator[None]:
    """Attack until the context is left, and note what was sent."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_SCRIPT),
        name,
        *targets,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(_TESTS)},
    )
    try:
        yield
        async with asyncio.timeout(_END_S):
            said, _ = await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RowFailed(f"the attacker ended with {process.returncode}")
    sent: dict[str, Any] = json.loads(said)
    lab.expect(sent.get("frames", 0) > 100, f"there was hardly an attack: {sent}")
    lab.notes.append("attacker: " + ", ".join(f"{n:g} {what}" for what, n in sent.items()))


ROWS: dict[str, Callable[[Lab], Awaitable[None]]] = {
    "slow_reader": slow_reader,
    "cancel_storm": cancel_storm,
    **{
        name: partial(attacked, name)
        for name in (
            "rapid_reset",
            "continuation_flood",
            "ping_flood",
            "settings_flood",
            "header_bomb",
            "garbage",
        )
    },
}
