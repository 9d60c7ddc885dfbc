"""What a client makes of words that only a newer server knows."""

from __future__ import annotations

import io
from typing import Any

import pytest

from kotaemon_grpc.client.testing import FakeTransport
from kotaemon_grpc.pb.v2 import agent_pb2 as pb


@pytest.mark.parametrize(
    ("number", "word"), [(99, "99"), (pb.FINISH_REASON_ANSWERED, "answered"), (0, "unspecified")]
)
async def test_a_reason_of_tomorrow_is_given_as_its_number(
    client_of: Any, number: Any, word: str
) -> None:
    answer = pb.Answer(text="so", finish_reason=number)
    transport = FakeTransport({"AskQuestion": lambda _: pb.AskQuestionResponse(answer=answer)})
    assert (await client_of(transport).ask("why?")).finish_reason == word


async def test_so_are_a_state_and_an_outcome(client_of: Any) -> None:
    document = pb.Document(indexing_state=99)  # type: ignore[arg-type] # that is the test
    transport = FakeTransport(
        {
            "GetDocument": lambda _: pb.GetDocumentResponse(document=document),
            "ImportDocument": lambda _: pb.ImportDocumentResponse(document=document, outcome=98),  # type: ignore[arg-type] # that is the test
        }
    )
    client = client_of(transport)
    assert (await client.get_document("d")).state == "99"
    assert (await client.import_document(io.BytesIO(b"text"), uri="x:t")).outcome == "98"
