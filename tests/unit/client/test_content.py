"""What can be imported."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from kotaemon_grpc.client.testing import FakeTransport
from kotaemon_grpc.pb.v2 import agent_pb2 as pb


@pytest.mark.parametrize("content", ["handbook.md", Path("handbook.md"), b"text", io.StringIO("x")])
async def test_what_is_no_binary_file_is_refused_in_one_sentence(
    client_of: Any, content: Any
) -> None:
    transport = FakeTransport({})
    with pytest.raises(TypeError, match=r'^content must be a binary file, .*binary mode.*"rb"\)$'):
        await client_of(transport).import_document(content, uri="urn:x")
    assert transport.calls == []


async def test_a_file_is_sent_from_its_start_and_left_open(client_of: Any, tmp_path: Path) -> None:
    sent = []

    async def take(requests: Any) -> pb.ImportDocumentResponse:
        sent.extend([request.chunk async for request in requests])
        return pb.ImportDocumentResponse()

    (tmp_path / "x").write_bytes(b"some text")
    with (tmp_path / "x").open("rb") as file:
        file.read()
        await client_of(FakeTransport({"ImportDocument": take})).import_document(file, uri="urn:x")
        assert not file.closed
    assert b"".join(sent) == b"some text"
