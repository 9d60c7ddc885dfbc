from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.health import HealthReporter, HealthServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
async def reporter() -> HealthReporter:
    return await HealthReporter.create()


@pytest.fixture
async def stub(reporter: HealthReporter) -> AsyncIterator[Any]:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    bound = await server.start()
    async with grpc.aio.insecure_channel(str(bound)) as channel:
        yield health_pb2_grpc.HealthStub(channel)
    await server.stop()


async def _status(stub: Any, service: str = "") -> int:
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return reply.status


async def test_nothing_serves_until_it_is_said(stub: Any, reporter: HealthReporter) -> None:
    assert await _status(stub) == NOT_SERVING
    await reporter.set_serving(["kotaemon.v2.AgentService"])
    assert await _status(stub) == SERVING
    assert await _status(stub, "kotaemon.v2.AgentService") == SERVING
    await reporter.set_not_serving()
    assert await _status(stub, "kotaemon.v2.AgentService") == NOT_SERVING
    await reporter.set_serving([])
    assert await _status(stub, "kotaemon.v2.AgentService") == SERVING


async def test_an_unknown_service_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await _status(stub, "no.Service")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_shut_down_is_for_ever(stub: Any, reporter: HealthReporter) -> None:
    await reporter.set_serving([])
    await reporter.shut_down()
    await reporter.set_serving([])
    assert await _status(stub) == NOT_SERVING


async def test_a_watch_tells_changes(stub: Any, reporter: HealthReporter) -> None:
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert (await watch.read()).status == NOT_SERVING
    await reporter.set_serving([])
    assert (await watch.read()).status == SERVING
    await reporter.shut_down()
    assert (await watch.read()).status == NOT_SERVING


async def test_a_watch_beside_other_services_ends_when_told_to(reporter: HealthReporter) -> None:
    server = grpc.aio.server()
    reporter.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert (await watch.read()).status == NOT_SERVING
        await reporter.set_serving([])
        assert (await watch.read()).status == SERVING
        await reporter.shut_down()
        assert (await watch.read()).status == NOT_SERVING
        reporter.end_watches()
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK
    await server.stop(None)


async def test_a_watch_that_the_client_leaves_harms_nobody(
    stub: Any, reporter: HealthReporter
) -> None:
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="a"), timeout=30)
    assert (await watch.read()).status == SERVICE_UNKNOWN
    watch.cancel()
    await reporter.set_serving(["a"])
    assert await _status(stub, "a") == SERVING


async def test_the_health_port_serves_nothing_else(reporter: HealthReporter) -> None:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    bound = await server.start()
    async with grpc.aio.insecure_channel(str(bound)) as channel:
        call = channel.unary_unary("/kotaemon.v2.AgentService/AskQuestion")(b"", timeout=10)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop()


async def test_a_taken_port_names_its_flag(reporter: HealthReporter, taken_port: int) -> None:
    server = HealthServer(Address("127.0.0.1", taken_port), reporter)
    with pytest.raises(OperatorError, match=r"in use; .* with --health-listen"):
        await server.start()


async def test_mtls_and_health_port_tell_the_same(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    async with serve() as (address, reporter), connect(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert await _status(stub) == NOT_SERVING
        await reporter.set_serving([])
        assert await _status(stub) == SERVING
