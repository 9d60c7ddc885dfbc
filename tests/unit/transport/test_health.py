from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.health import HealthReporter, HealthServer
from kotaemon_grpc.transport.server import Server
from kotaemon_grpc.transport.threaded_health import MAX_WATCHES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, section 3.4
HEADERS, RST_STREAM, SETTINGS = 1, 3, 4  # section 6
END_OF_HEADERS = 0x4


@pytest.fixture
def reporter() -> HealthReporter:
    return HealthReporter()


@pytest.fixture
async def stub(reporter: HealthReporter) -> AsyncIterator[Any]:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    bound = await server.start()
    async with grpc.aio.insecure_channel(str(bound)) as channel:
        yield health_pb2_grpc.HealthStub(channel)
    await server.stop()


@asynccontextmanager
async def _on_threads(reporter: HealthReporter) -> AsyncIterator[str]:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    yield str(await server.start())
    await server.stop()


@asynccontextmanager
async def _on_a_loop(reporter: HealthReporter) -> AsyncIterator[str]:
    server = Server(reporter.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def _head_of(path: str) -> bytes:
    """Header fields without indexing (RFC 7541, section 6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    texts = [(name.encode(), value.encode()) for name, value in fields.items()]
    return b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in texts
    )


def _begin(raw: socket.socket, path: str, calls: int) -> None:
    """Send the heads of calls without any request; return when all are begun or refused."""
    streams = range(1, 2 * calls, 2)
    heads = [_frame(HEADERS, END_OF_HEADERS, stream, _head_of(path)) for stream in streams]
    raw.sendall(PREFACE + _frame(SETTINGS, 0, 0, b"") + b"".join(heads))
    last_is_refused = _frame(RST_STREAM, 0, streams[-1], bytes(4))[:9]
    received = b""
    while last_is_refused not in received:
        more = raw.recv(4096)
        assert more, received
        received += more


async def _status(stub: Any, service: str = "") -> int:
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return reply.status


async def test_nothing_serves_until_it_is_said(stub: Any, reporter: HealthReporter) -> None:
    assert await _status(stub) == NOT_SERVING
    reporter.set_serving(["kotaemon.v2.AgentService"])
    assert await _status(stub) == SERVING
    assert await _status(stub, "kotaemon.v2.AgentService") == SERVING
    reporter.set_not_serving()
    assert await _status(stub, "kotaemon.v2.AgentService") == NOT_SERVING
    reporter.set_serving([])
    assert await _status(stub, "kotaemon.v2.AgentService") == SERVING


async def test_an_unknown_service_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await _status(stub, "no.Service")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_shut_down_is_for_ever(stub: Any, reporter: HealthReporter) -> None:
    reporter.set_serving([])
    reporter.shut_down()
    reporter.set_serving([])
    assert await _status(stub) == NOT_SERVING


async def test_a_watch_tells_changes(stub: Any, reporter: HealthReporter) -> None:
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
    assert (await watch.read()).status == NOT_SERVING
    reporter.set_serving([])
    assert (await watch.read()).status == SERVING
    reporter.shut_down()
    assert (await watch.read()).status == NOT_SERVING


async def test_a_watch_beside_other_services_ends_when_told_to(reporter: HealthReporter) -> None:
    server = Server(reporter.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert (await watch.read()).status == NOT_SERVING
        reporter.set_serving([])
        assert (await watch.read()).status == SERVING
        reporter.shut_down()
        assert (await watch.read()).status == NOT_SERVING
        reporter.end_watches()
        assert await watch.read() is grpc.aio.EOF
        assert await watch.code() is grpc.StatusCode.OK
    await server.stop(None)


@pytest.mark.parametrize("serving", [_on_threads, _on_a_loop])
async def test_a_watch_that_is_ended_has_told_the_last_state(
    reporter: HealthReporter, serving: Callable[..., Any]
) -> None:
    watches = []
    async with serving(reporter) as address, grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reporter.set_serving([])
        for _ in range(MAX_WATCHES):
            watches.append(stub.Watch(health_pb2.HealthCheckRequest(), timeout=30))
            assert (await watches[-1].read()).status == SERVING
        reporter.shut_down()
        reporter.end_watches()  # no watch has had a turn of the loop since the change
        reporter.end_threaded_watches()
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
            assert await watch.read() is grpc.aio.EOF
            assert await watch.code() is grpc.StatusCode.OK


async def test_the_health_port_stops_when_all_watches_have_told_the_last_state(
    reporter: HealthReporter,
) -> None:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    async with grpc.aio.insecure_channel(str(await server.start())) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == NOT_SERVING
        reporter.set_serving([])
        stopping = asyncio.create_task(server.stop())
        assert (await watch.read()).status == SERVING
        assert await watch.read() is grpc.aio.EOF
        await stopping


async def test_a_watch_that_the_client_leaves_harms_nobody(
    stub: Any, reporter: HealthReporter
) -> None:
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="a"), timeout=30)
    assert (await watch.read()).status == SERVICE_UNKNOWN
    watch.cancel()
    reporter.set_serving(["a"])
    assert await _status(stub, "a") == SERVING


async def test_the_health_port_serves_nothing_else(reporter: HealthReporter) -> None:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    bound = await server.start()
    async with grpc.aio.insecure_channel(str(bound)) as channel:
        call = channel.unary_unary("/kotaemon.v2.AgentService/AskQuestion")(b"", timeout=10)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.stop()


async def test_the_health_port_answers_while_the_loop_is_busy(reporter: HealthReporter) -> None:
    server = HealthServer(Address("127.0.0.1", 0), reporter)
    bound = await server.start()
    with grpc.insecure_channel(str(bound)) as channel:
        # It waits for the answer on the thread of the loop.
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=10
        )
    assert reply.status == NOT_SERVING
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
        reporter.set_serving([])
        assert await _status(stub) == SERVING


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_unfinished_calls_of_one_connection_hold_up_no_other(method: str) -> None:
    reporter = HealthReporter(request_timeout_s=100)  # no limit ends them
    async with _on_threads(reporter) as address, grpc.aio.insecure_channel(address) as channel:
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), 20) as raw:
            await asyncio.to_thread(_begin, raw, f"/grpc.health.v1.Health/{method}", 50)
            stub = health_pb2_grpc.HealthStub(channel)
            assert await _status(stub) == NOT_SERVING
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()


@pytest.mark.parametrize("method", ["Check", "Watch"])
@pytest.mark.parametrize(
    ("serving", "code"),
    [
        (_on_threads, grpc.StatusCode.CANCELLED),
        (_on_a_loop, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_a_call_without_its_request_is_ended(
    serving: Callable[..., Any], code: grpc.StatusCode, method: str
) -> None:
    reporter = HealthReporter(request_timeout_s=0.05)
    async with serving(reporter) as address, grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(f"/grpc.health.v1.Health/{method}")()  # has no deadline
        assert await call.code() is code


@pytest.mark.parametrize("serving", [_on_threads, _on_a_loop])
@pytest.mark.parametrize("contents", [[], [b"\xff"]], ids=["nothing", "bytes"])
async def test_what_is_no_request_asks_for_an_unknown_service(
    reporter: HealthReporter, serving: Callable[..., Any], contents: list[bytes]
) -> None:
    async with serving(reporter) as address, grpc.aio.insecure_channel(address) as channel:
        check = channel.stream_unary("/grpc.health.v1.Health/Check")(iter(contents), timeout=10)
        assert await check.code() is grpc.StatusCode.NOT_FOUND
        watch = channel.stream_stream("/grpc.health.v1.Health/Watch")(iter(contents), timeout=10)
        reply = health_pb2.HealthCheckResponse.FromString(await watch.read())
        assert reply.status == SERVICE_UNKNOWN
        watch.cancel()


@pytest.mark.parametrize("serving", [_on_threads, _on_a_loop])
async def test_the_limit_is_for_the_request_alone(serving: Callable[..., Any]) -> None:
    reporter = HealthReporter(request_timeout_s=1)
    async with serving(reporter) as address, grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert (await watch.read()).status == NOT_SERVING
        late = channel.stream_unary("/grpc.health.v1.Health/Check")(timeout=30)
        await late.code()  # the limit, which began after that of the watch, is over
        reporter.set_serving([])
        assert (await watch.read()).status == SERVING
        watch.cancel()
