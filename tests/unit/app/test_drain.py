"""The steps of a drain around a real server, one by one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import CapturingLogger

from kotaemon_grpc.app.drain import Drain
from kotaemon_grpc.core.leaving import Leaving
from kotaemon_grpc.pipeline.metadata import METADATA
from kotaemon_grpc.pipeline.native import native_handlers
from kotaemon_grpc.pipeline.running import Running
from kotaemon_grpc.pipeline.seam import Seam
from kotaemon_grpc.transport.health import HealthReporter
from kotaemon_grpc.transport.server import Server
from kotaemon_grpc.transport.shutdown import StopSignals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "a.Service"
LONG_S = 3600.0
SHORT_S = 0.05

Work = Callable[[], Awaitable[None]]


class House:
    """A server with one method that does what it is told, and what drains it."""

    def __init__(self, reporter: HealthReporter) -> None:
        self.running, self.leaving = Running(), Leaving()
        self.log = CapturingLogger()
        self.begun = asyncio.Queue[None]()
        self.work: Work = asyncio.Event().wait
        self.is_known = False
        self.drain = Drain(
            health=reporter,
            leaving=self.leaving,
            running=self.running,
            on_begin=self._know,
            log=self.log,
            closing_s=SHORT_S,
        )
        handler = grpc.unary_unary_rpc_method_handler(self._serve, bytes, bytes)
        handlers = native_handlers(Seam([self.running], []), SERVICE, {"Work": handler})
        by_path = {f"/{method.path}": each for method, each in handlers.items()}
        self.server = Server(by_path | reporter.handlers(), on_call=METADATA.set)
        self.drain.servers.append(self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def _know(self) -> None:
        self.is_known = True

    async def _serve(self, request: bytes, _context: Any) -> bytes:
        self.begun.put_nowait(None)
        await self.work()
        return request

    @property
    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [(call.method_name, *call.args, call.kwargs) for call in self.log.calls]


@pytest.fixture
def reporter() -> HealthReporter:
    reporter = HealthReporter()
    reporter.set_serving([])
    return reporter


@pytest.fixture
async def house(reporter: HealthReporter) -> AsyncIterator[House]:
    house = House(reporter)
    await house.server.start()
    yield house
    await house.server.stop(None)


@pytest.fixture
async def channel(house: House) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(house.address) as channel:
        yield channel


def call(channel: grpc.aio.Channel, **options: Any) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Work")(b"so", **options)


async def nobody_listens(address: str) -> None:
    """Wait until no connection is taken any more."""
    host, _, port = address.rpartition(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
        except ConnectionRefusedError:
            return
        except OSError:  # it was taken, and dropped as the listener closed
            continue


async def test_between_the_signal_and_the_end_calls_are_taken(
    house: House, channel: grpc.aio.Channel
) -> None:
    async with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        known = asyncio.create_task(house.drain.until_known(signals, LONG_S))
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        while (await watch.read()).status != NOT_SERVING:
            pass
        assert house.is_known
        house.work = lambda: asyncio.sleep(0)
        assert await call(channel) == b"so"
        assert not house.leaving.is_said
        assert not known.done()
        known.cancel()
    assert house.events == [("info", "server.draining", {"signal": "SIGTERM"})]


async def test_a_server_that_serves_nothing_yet_does_not_wait(house: House) -> None:
    house.drain.servers.clear()
    async with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        await house.drain.until_known(signals, LONG_S)


async def test_calls_finish_within_the_grace_and_no_new_ones_are_taken(
    house: House, channel: grpc.aio.Channel
) -> None:
    let_go = asyncio.Event()
    house.work = let_go.wait
    begun = call(channel)
    await house.begun.get()
    ending = asyncio.create_task(house.drain.end_calls(LONG_S))
    await house.leaving.wait()
    assert house.leaving.grace_s == LONG_S
    await nobody_listens(house.address)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(channel)
    assert not ending.done()
    let_go.set()
    assert await begun == b"so"
    assert await ending
    assert house.begun.empty()


async def test_a_handler_whose_client_has_gone_is_waited_for(
    house: House, channel: grpc.aio.Channel
) -> None:
    cleaning, is_clean = asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await is_clean.wait()

    house.work = clean_up
    begun = call(channel)
    await house.begun.get()
    begun.cancel()
    await cleaning.wait()
    ending = asyncio.create_task(house.drain.end_calls(LONG_S))
    await house.server.wait_for_termination()  # nothing is left as core sees it
    assert not ending.done()
    is_clean.set()
    assert await ending


@pytest.mark.parametrize("timeout_s", [None, LONG_S])
async def test_a_call_that_takes_longer_is_told_that_the_server_stops(
    house: House, channel: grpc.aio.Channel, failure_of: Any, timeout_s: float | None
) -> None:
    begun = call(channel, timeout=timeout_s)
    await house.begun.get()
    assert await house.drain.end_calls(0)
    failure = await failure_of(begun)
    assert (failure.code, failure.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert list(house.running) == []


async def test_a_watch_of_health_does_not_hold_up_the_end(
    house: House, channel: grpc.aio.Channel
) -> None:
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    assert await house.drain.end_calls(LONG_S)
    assert await watch.code() is grpc.StatusCode.OK


async def test_a_handler_that_ignores_its_end_is_named_and_not_waited_for(
    house: House, channel: grpc.aio.Channel
) -> None:
    let_go = asyncio.Event()

    async def ignore() -> None:
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    house.work = ignore
    begun = call(channel, metadata=(("x-request-id", "r-1"),))
    await house.begun.get()
    assert not await house.drain.end_calls(0)
    named = {"grpc_service": SERVICE, "grpc_method": "Work", "request_id": "r-1"}
    assert house.events == [("error", "call.left_behind", named)]
    with pytest.raises(grpc.aio.AioRpcError):
        await begun
    let_go.set()
    await house.running.wait_until_none()
