from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import listener
from kotaemon_grpc.transport.address import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def server() -> AsyncIterator[grpc.aio.Server]:
    server = grpc.aio.server(options=listener.server_options(listener.Bounds(4096, 2, 10)))
    yield server
    await server.stop(None)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_port_0_picks_a_free_one(server: grpc.aio.Server, host: str) -> None:
    bound = listener.bind(server, Address(host, 0), None)
    assert bound.host == host
    assert bound.port > 0


async def test_a_taken_port_is_one_line_that_says_what_to_do(
    server: grpc.aio.Server, taken_port: int
) -> None:
    with pytest.raises(OperatorError) as refused:
        listener.bind(server, Address("127.0.0.1", taken_port), None)
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{taken_port}: the port is in use; "
        "stop the other program or choose another with --listen"
    )


async def test_a_second_server_does_not_share_the_port(server: grpc.aio.Server) -> None:
    bound = listener.bind(server, Address("127.0.0.1", 0), None)
    await server.start()
    second = grpc.aio.server(options=listener.server_options(listener.Bounds(4096, 2, 10)))
    with pytest.raises(OperatorError, match="the port is in use"):
        listener.bind(second, bound, None)
    await second.stop(None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])  # noqa: S104 - it is refused
async def test_plaintext_for_others_to_reach_is_refused(server: grpc.aio.Server, host: str) -> None:
    with pytest.raises(OperatorError, match=r"without TLS: anybody on the network .* --insecure"):
        listener.bind(server, Address(host, 0), None)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.1", "this machine does not have the address"),  # RFC 5737: nobody has it
        ("name.invalid", "the host name is not known"),  # RFC 6761: nobody has it
    ],
)
async def test_an_address_of_others_is_refused(
    server: grpc.aio.Server, host: str, expected: str
) -> None:
    with pytest.raises(OperatorError, match=expected):
        listener.bind_plaintext(server, Address(host, 1025), flag="--health-listen")


async def test_a_message_over_the_limit_ends_its_call(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    async with serve() as (address, _), connect(address) as channel:
        request = health_pb2.HealthCheckRequest(service="x" * (4 * 1024 * 1024 + 1))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_over_the_limit_ends_its_call_every_time(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    async with serve() as (address, reporter), connect(address) as channel:
        reporter.set_serving([])
        check = health_pb2_grpc.HealthStub(channel).Check
        for size, code in ((12_000, None), (17_000, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            for _ in range(5):
                call = check(
                    health_pb2.HealthCheckRequest(), metadata=[("m", "x" * size)], timeout=10
                )
                assert await call.code() is (code or grpc.StatusCode.OK)
