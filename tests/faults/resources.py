"""What a machine does to a server: its disk is full, its clock jumps."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from servers import RowSkipped

from kotaemon_grpc.client import CallError

if TYPE_CHECKING:
    from lab import Lab

    from kotaemon_grpc.client import AgentClient, Imported

_MOUNT = ("unshare", "--map-root-user", "--mount", "sh", "-c")
_MOUNT_AND_RUN = 'mount -t tmpfs -o size=16m tmpfs "$0" && exec "$@"'
_FULL_S = 5.0
_FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
_HOUR = timedelta(hours=1)
_JUMP_LIMIT_S = 30.0
_JUMPS = 3


async def disk_full(lab: Lab) -> None:
    data = lab.directory / "server-0" / "data"
    data.mkdir(parents=True)
    if subprocess.run([*_MOUNT, _MOUNT_AND_RUN, data, "true"], check=False).returncode:  # noqa: ASYNC221 - short, and nothing else runs yet
        raise RowSkipped("no file system can be mounted here, not even in a namespace of one's own")
    [server] = await lab.start(command=(*_MOUNT, _MOUNT_AND_RUN, str(data)))
    # The mount is the server's alone, and is gone when it ends.
    ballast = Path(f"/proc/{server.pid}/root{data}") / "ballast"
    async with lab.steady_load(server.address) as load:
        kept = await _import(load.client, "before")
        _fill(ballast)
        refused = await _refusals(lab, load.client, kept.document.name)
        ballast.unlink()
        after = await _import(load.client, "after")
    lab.expect(after.outcome == "created", f"after the disk was full: {after.outcome}")
    lab.notes.append(f"full for {_FULL_S:g} s, {refused} imports refused with STORAGE_FULL")


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            for size in (1 << 16, 1 << 12, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break
        finally:
            os.fsync(file.fileno())


async def _refusals(lab: Lab, client: AgentClient, name: str) -> int:
    """While the disk is full: writes are refused with a reason, and reads are not."""
    refused = 0
    end_s = time.monotonic() + _FULL_S
    while time.monotonic() < end_s:
        try:
            await _import(client, f"refused-{refused}")
        except CallError as error:
            refused += 1
            lab.expect(
                error.reason == "STORAGE_FULL", f"a write failed with {error} ({error.reason})"
            )
        else:
            lab.expect(refused == 0, "a full disk took a document")
        document = await client.get_document(name)
        lab.expect(document.state == "indexed", f"a document is {document.state}")
        await client.search("anything")
    lab.expect(refused, "no write was refused")
    return refused


async def _import(client: AgentClient, name: str) -> Imported:
    text = f"# {name}\n\nThe ferry sails.\n" + "It rained on the quay.\n\n" * 3_000
    return await client.import_document(io.BytesIO(text.encode()), uri=f"file:///{name}.md")


async def clock_jump(lab: Lab) -> None:
    if not _FAKETIME:
        raise RowSkipped("libfaketime is not there; install it as Debian's package libfaketime")
    clock = lab.directory / "clock"
    clock.write_text("+0\n")
    environ = {
        "LD_PRELOAD": str(_FAKETIME[-1]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    [jumping] = await lab.start(environ=environ)
    [steady] = await lab.start()
    async with (
        lab.client(jumping.address) as watcher,
        lab.steady_load(jumping.address, steady.address),
    ):
        for number in range(_JUMPS):
            for hours in (1, 0):
                clock.write_text(f"+{hours * 3600}\n")
                await lab.until(
                    lambda at=hours, name=f"{number}-{hours}": _is_at(watcher, name, at),
                    "the server's clock does not jump",
                    _JUMP_LIMIT_S,
                )
                await asyncio.sleep(1)
    lab.notes.append(f"{_JUMPS} times an hour forward and back")


async def _is_at(client: AgentClient, name: str, hours: int) -> bool:
    """Tell by the time of a new document whether the clock is so many hours ahead."""
    imported = await _import(client, f"{name}-{time.monotonic_ns()}")
    ahead = imported.document.create_time - datetime.now(UTC)
    return abs(ahead - hours * _HOUR) < _HOUR / 2


ROWS = {each.__name__: each for each in (disk_full, clock_jump)}
