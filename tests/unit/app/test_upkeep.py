"""Work beside real servers, which ends in every way that it can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest

from kotaemon_grpc.app.upkeep import until_ended
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPKEEP = "upkeep has ended by itself; start the server again"
LISTENER = "the gRPC listener has ended by itself; start the server again"


class BrokenError(Exception):
    """What work fails with."""


class Work:
    """Goes on until it is cancelled, and takes a turn of the loop to end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.has_ended = False

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.has_ended = True


@pytest.fixture
async def servers() -> AsyncIterator[list[grpc.aio.Server]]:
    started = [grpc.aio.server(), grpc.aio.server()]
    for server in started:
        server.add_insecure_port("127.0.0.1:0")
        await server.start()
    yield started
    for server in started:
        await server.stop(None)


async def fail(after: asyncio.Event) -> None:
    await after.wait()
    raise BrokenError


async def test_work_that_fails_ends_the_server(servers: list[grpc.aio.Server]) -> None:
    other = Work()
    with pytest.raises(OperatorError, match=f"^{UPKEEP}$") as ended:
        await until_ended(servers, other(), fail(other.begun))
    assert isinstance(ended.value.__cause__, BrokenError)
    assert other.has_ended


async def test_of_work_in_a_group_the_fault_itself_is_told(servers: list[grpc.aio.Server]) -> None:
    other = Work()

    async def group() -> None:
        async with asyncio.TaskGroup() as running:
            running.create_task(other())
            running.create_task(fail(other.begun))

    with pytest.raises(OperatorError, match=f"^{UPKEEP}$") as ended:
        await until_ended(servers, group())
    assert isinstance(ended.value.__cause__, BrokenError)


async def test_work_that_was_cancelled_by_nobody_ends_the_server(
    servers: list[grpc.aio.Server],
) -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(OperatorError, match=f"^{UPKEEP}$") as ended:
        await until_ended(servers, cancelled())
    assert isinstance(ended.value.__cause__, asyncio.CancelledError)


async def test_work_may_come_to_its_end(servers: list[grpc.aio.Server]) -> None:
    over, other = asyncio.Event(), Work()

    async def brief() -> None:
        asyncio.get_running_loop().call_soon(over.set)

    async def stop_one() -> None:
        await over.wait()
        await servers[1].stop(None)

    stopping = asyncio.create_task(stop_one())
    with pytest.raises(OperatorError, match=f"^{LISTENER}$"):
        await until_ended(servers, brief(), other())
    assert other.has_ended
    await stopping


async def test_whoever_cancels_it_finds_the_work_ended(servers: list[grpc.aio.Server]) -> None:
    work = Work()
    running = asyncio.create_task(until_ended(servers, work()))
    await work.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.has_ended
