"""TLS 1.3, where it is required."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIST = "kotaemon.v2.ConversationService/ListConversations"
STREAM = "kotaemon.v2.AgentService/StreamAnswer"
REQUESTS = {
    LIST: pb.ListConversationsRequest(),
    STREAM: pb.StreamAnswerRequest(question="When does the canteen open?"),
}
METRIC = "kotaemon_grpc_credentials_verified_total"
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@asynccontextmanager
async def through(house: Any, listener: str, version: str) -> AsyncIterator[grpc.Channel]:
    """Open a channel whose bytes go on to a listener over one version of TLS."""
    context = ssl.create_default_context(cafile=house.certs / "ca.pem")
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.set_alpn_protocols(["h2"])
    host, _, port = house.address(listener).rpartition(":")
    pumping: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # the other side has gone
            while more := await reader.read(65536):
                writer.write(more)
                await writer.drain()
        writer.transport.abort()  # core would not answer a farewell of TLS

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port), ssl=context)
        assert far_writer.get_extra_info("ssl_object").version() == version
        pumping.add(asyncio.create_task(pump(reader, far_writer)))
        pumping.add(asyncio.create_task(pump(far_reader, writer)))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
        near = proxy.sockets[0].getsockname()[1]
        with grpc.insecure_channel(f"127.0.0.1:{near}") as channel:
            yield channel
        await asyncio.gather(*pumping)


@pytest.mark.parametrize("path", REQUESTS)
@pytest.mark.parametrize("role", ["user", "no credentials"])
async def test_an_older_version_is_told_what_is_required(house: Any, path: str, role: str) -> None:
    shown = {} if role == "no credentials" else house.bearer("acme", role)
    async with through(house, "jwt over 1.3", "TLSv1.2") as channel:
        reply = await house.call(path, REQUESTS[path], channel=channel, shown=shown)
    assert (reply.code, reply.reason) == ("FAILED_PRECONDITION", "TLS_VERSION_TOO_OLD")
    (unmet,) = reply.failure.detail("PreconditionFailure").violations
    assert (unmet.type, unmet.subject) == ("TLS_VERSION", "connection")
    assert "TLSv1.2" in unmet.description
    assert "TLSv1.3" in unmet.description
    assert reply.failure.kinds == [
        "ErrorInfo",
        "RequestInfo",
        "PreconditionFailure",
        "LocalizedMessage",
    ]


@pytest.mark.parametrize(
    ("listener", "version"),
    [("jwt over 1.3", "TLSv1.3"), ("jwt", "TLSv1.3"), ("jwt", "TLSv1.2")],
)
async def test_credentials_are_counted_by_the_version_that_they_came_over(
    house: Any, listener: str, version: str
) -> None:
    def counted() -> dict[str, float]:
        return {each: house.metric(METRIC, tls_version=each) for each in VERSIONS}

    before, shown = counted(), house.bearer("acme", "user")
    async with through(house, listener, version) as channel:
        for _ in range(3):  # which counts once: they are known from then on
            reply = await house.call(LIST, REQUESTS[LIST], channel=channel, shown=shown)
            assert reply.code == "OK"
    assert counted() == {**before, version: before[version] + 1}


async def test_what_is_refused_is_not_counted(house: Any) -> None:
    before, shown = house.metric(METRIC), house.bearer("acme", "user")
    async with through(house, "jwt over 1.3", "TLSv1.2") as channel:
        reply = await house.call(LIST, REQUESTS[LIST], channel=channel, shown=shown)
    assert reply.code == "FAILED_PRECONDITION"
    assert house.metric(METRIC) == before
