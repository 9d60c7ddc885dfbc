"""The deadlines that `AgentClient` gives its calls."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import AgentClient
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clocked(stubs.DocumentServiceServicer):
    """Takes nothing in, and notes how long the client would wait."""

    remaining_s = 0.0

    async def ImportDocument(self, requests: Any, context: Any) -> pb.ImportDocumentResponse:  # noqa: N802 - the name in the contract
        self.remaining_s = context.time_remaining()
        async for _ in requests:
            pass
        return pb.ImportDocumentResponse()


@pytest.fixture
async def server() -> AsyncIterator[tuple[Clocked, str]]:
    served = Clocked()
    server = grpc.aio.server()
    stubs.add_DocumentServiceServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield served, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("mebibytes", [0, 8])
async def test_an_import_has_a_second_more_for_each_mebibyte(
    server: tuple[Clocked, str], mebibytes: int
) -> None:
    served, target = server
    async with AgentClient(target, tls=None, timeout_s=50.0) as client:
        await client.import_document(io.BytesIO(bytes(mebibytes << 20)), uri="urn:x")
    # What is left when the call arrives; gRPC rounds a deadline up to three digits.
    assert round((served.remaining_s - 50) / 4) == mebibytes / 4
