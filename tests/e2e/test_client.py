"""`AgentClient` against a real server."""

from __future__ import annotations

import asyncio
import io
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import (
    NEW_CONVERSATION,
    AgentClient,
    Answer,
    CallError,
    CitationAdded,
    ClientError,
    ConfigurationError,
    DeadlineError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    TextDelta,
    TlsFiles,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

QUESTION = "How many passengers may the Marigold carry?"
ANSWER = "may carry 180 passengers"


@pytest.fixture
def collection() -> str:
    return f"collections/k{uuid.uuid4().hex}"


async def test_a_question_is_answered(client: AgentClient) -> None:
    answer = await client.ask(QUESTION)
    assert ANSWER in answer.text
    assert (answer.finish_reason, answer.conversation) == ("answered", "")
    assert answer.citations[0].title
    start, end = answer.citations[0].spans[0]
    assert answer.text[start:end] == answer.citations[0].snippet


async def test_a_stream_ends_in_the_whole_answer(client: AgentClient) -> None:
    *pieces, answer = [event async for event in client.stream(QUESTION)]
    assert isinstance(answer, Answer)
    assert "".join(p.text for p in pieces if isinstance(p, TextDelta)) == answer.text
    citations = tuple(p.citation for p in pieces if isinstance(p, CitationAdded))
    assert citations == answer.citations


async def test_a_chat_is_kept_when_that_is_wanted(
    client: AgentClient, questions: dict[str, Any]
) -> None:
    follow_up = questions["follow_ups"][0]

    async def both() -> AsyncIterator[str]:
        yield follow_up["first"]
        yield follow_up["then"]

    events = [event async for event in client.chat(both(), conversation=NEW_CONVERSATION)]
    first, second = (event for event in events if isinstance(event, Answer))
    assert follow_up["contains"] in second.text
    assert first.conversation == second.conversation != ""
    again = await client.ask(follow_up["then"], conversation=second.conversation)
    assert follow_up["contains"] in again.text


async def test_passages_are_found(client: AgentClient) -> None:
    results = await client.search(QUESTION, page_size=2)
    assert len(results) == 2
    assert ANSWER in " ".join(results[0].text.split())


async def test_documents_are_imported_listed_got_and_deleted(
    client: AgentClient, collection: str
) -> None:
    names = []
    for number in range(3):
        imported = await client.import_document(
            io.BytesIO(b"# Title\n\ntext"),
            uri=f"https://h.example/{number}.md",
            collection=collection,
            document_id=f"d{number}",
        )
        assert (imported.outcome, imported.document.state) == ("created", "indexed")
        names.append(imported.document.name)
    assert [document.name async for document in client.list_documents(collection)] == names
    assert (await client.get_document(names[0])).title == "Title"
    await client.delete_document(names[0])
    with pytest.raises(NotFoundError):
        await client.get_document(names[0])


class Counted(io.RawIOBase):
    """A file whose size costs no memory; counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.at = 0
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, at: int, whence: int = 0) -> int:
        self.at = at + (self.size if whence == io.SEEK_END else 0)
        return self.at

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.size - self.at)
        line = b"the same line of text again and again, for want of another one\n\n"
        skipped = self.at % len(line)
        whole = line * (count // len(line) + 2)
        buffer[:count] = whole[skipped : skipped + count]
        self.at += count
        self.read_bytes += count
        return count


async def test_a_file_is_imported_whole_wherever_it_stands(
    client: AgentClient, collection: str
) -> None:
    content = io.BytesIO(b"the first line\nthe second line")
    content.seek(9)
    imported = await client.import_document(content, uri="urn:x", collection=collection)
    assert imported.document.size_bytes == 30


async def test_a_large_document_that_the_server_has_is_not_sent_again(
    start: Callable[..., Any],
) -> None:
    size = 60_000_000
    server = start()
    async with AgentClient(server.address, tls=server.tls) as client:
        first = await client.import_document(Counted(size), uri="file:///big.txt")
        again = Counted(size)
        second = await client.import_document(again, uri="file:///big.txt")
    assert (first.outcome, second.outcome) == ("created", "unchanged")
    assert first.document.size_bytes == size
    # Once for its hash; of the second reading, what was on its way when the answer came.
    assert again.read_bytes < 1.5 * size


async def test_a_document_over_the_limit_is_told_as_such_every_time(
    start: Callable[..., Any],
) -> None:
    server = start("--set", "documents.max_document_bytes=300000")
    async with server.client() as client:

        async def run() -> str:
            with pytest.raises(ExhaustedError) as raised:
                await client.import_document(Counted(3_000_000), uri="file:///big.txt")
            return raised.value.reason

        reasons = [await asyncio.gather(*(run() for _ in range(5))) for _ in range(6)]
    assert {reason for round_ in reasons for reason in round_} == {"DOCUMENT_TOO_LARGE"}


async def test_content_that_cannot_be_read_is_the_callers_own_error(
    client: AgentClient, collection: str
) -> None:
    class Broken(Counted):
        def readinto(self, buffer: Any) -> int:
            if self.read_bytes >= 1_000_000:
                raise OSError(5, "broken")
            return super().readinto(buffer)

    with pytest.raises(OSError, match="broken"):
        await client.import_document(Broken(800_000), uri="file:///x.txt", collection=collection)


async def test_errors_say_what_the_server_said(client: AgentClient) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        await client.ask(" ", language="_")
    error = raised.value
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert {v.field for v in error.field_violations} == {"question", "language_code"}
    assert error.request_id
    assert error.message in str(error)


@pytest.mark.parametrize("verb", ["stream", "chat"])
async def test_streams_raise_what_the_server_said(client: AgentClient, verb: str) -> None:
    async def one() -> AsyncIterator[str]:
        yield QUESTION

    events = (
        client.stream(QUESTION, collection="collections/never-was")
        if verb == "stream"
        else client.chat(one(), collection="collections/never-was")
    )
    with pytest.raises(NotFoundError) as raised:
        [event async for event in events]
    assert raised.value.reason == "COLLECTION_NOT_FOUND"
    assert raised.value.request_id


async def test_a_deadline_is_told(server: Any) -> None:
    async with AgentClient(server.address, tls=server.tls, timeout_s=1e-6) as client:
        with pytest.raises(DeadlineError):
            await client.ask(QUESTION)


async def test_no_server_is_told(server: Any) -> None:
    async with AgentClient("127.0.0.1:1", tls=server.tls, timeout_s=20) as client:
        with pytest.raises(UnavailableError) as raised:
            await client.ask(QUESTION)
    assert (raised.value.reason, raised.value.request_id) == ("", "")


@pytest.mark.parametrize("missing", ["ca.pem", "client.pem", "client-key.pem"])
def test_files_that_are_missing_are_named(certs: Path, tmp_path: Path, missing: str) -> None:
    for name in {"ca.pem", "client.pem", "client-key.pem"} - {missing}:
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    with pytest.raises(ConfigurationError, match=missing):
        AgentClient(tls=TlsFiles.in_directory(tmp_path))


def test_a_file_that_is_not_pem_is_named(certs: Path, tmp_path: Path) -> None:
    for name in ("ca.pem", "client.pem", "client-key.pem"):
        (tmp_path / name).write_bytes((certs / name).read_bytes())
    (tmp_path / "client.pem").write_bytes(b"not a certificate")
    with pytest.raises(ConfigurationError, match=r"client\.pem is not a PEM file"):
        AgentClient(tls=TlsFiles.in_directory(tmp_path))


@pytest.mark.parametrize("options", [{"target": ""}, {"timeout_s": 0}, {"timeout_s": -1}])
def test_values_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        AgentClient(**options, tls=None)


def test_one_class_is_the_root_of_all_errors() -> None:
    assert issubclass(ConfigurationError, ClientError)
    assert issubclass(CallError, ClientError)
    for kind in CallError.__subclasses__():
        assert issubclass(kind, ClientError)
