"""Imports that are repeated: each attempt sends the whole content."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOWN = failure(grpc.StatusCode.UNAVAILABLE)


async def test_an_import_begins_anew_with_the_same_id_and_the_whole_content(
    client_of: Any,
) -> None:
    content = bytes(range(256)) * 3000
    seen: list[tuple[str, bytes]] = []

    async def handle(requests: AsyncIterator[pb.ImportDocumentRequest]) -> Any:
        header = (await anext(requests)).header
        first = (await anext(requests)).chunk
        if not seen:
            seen.append((header.request_id, first))
            raise DOWN
        rest = [request.chunk async for request in requests]
        seen.append((header.request_id, b"".join([first, *rest])))
        return pb.ImportDocumentResponse()

    client = client_of(FakeTransport({"ImportDocument": handle}))
    await client.import_document(io.BytesIO(content), uri="urn:x")
    (broken_id, _), (whole_id, whole) = seen
    assert broken_id == whole_id != ""
    assert whole == content


async def test_an_attempt_that_still_reads_does_not_disturb_the_next(client_of: Any) -> None:
    content = bytes(range(256)) * 3000
    is_reading, may_go_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        """Stays in its first reading of a chunk until it is told to go on."""

        readings = 0

        def read(self, size: int | None = -1) -> bytes:
            self.readings += 1
            if self.readings == 1:
                is_reading.set()
                may_go_on.wait()
            return super().read(size)

    received = b""
    attempts = 0

    async def handle(requests: AsyncIterator[pb.ImportDocumentRequest]) -> Any:
        nonlocal attempts, received
        attempts += 1
        await anext(requests)
        if attempts == 1:
            reading = asyncio.ensure_future(anext(requests))
            await asyncio.to_thread(is_reading.wait)
            reading.cancel()
            await asyncio.wait((reading,))
            raise DOWN
        asyncio.get_running_loop().call_soon(may_go_on.set)
        received = b"".join([request.chunk async for request in requests])
        return pb.ImportDocumentResponse()

    client = client_of(FakeTransport({"ImportDocument": handle}))
    await client.import_document(Slow(content), uri="urn:x")
    assert received == content


async def test_a_file_that_cannot_be_read_is_not_read_again(client_of: Any) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:  # noqa: ARG002 - that of a file
            raise OSError(5, "broken")

    async def handle(requests: AsyncIterator[Any]) -> Any:
        return [request async for request in requests]

    transport = FakeTransport({"ImportDocument": handle})
    with pytest.raises(OSError, match="broken"):
        await client_of(transport).import_document(Broken(b"x"), uri="urn:x")
    assert len(transport.calls) == 1
