"""Taking documents in, with fakes."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.documents import DocumentHeader, Documents
from kotaemon_grpc.core.model import (
    DocumentDraft,
    ImportOutcome,
    Location,
    ParsedDocument,
    Passage,
    Scope,
)
from kotaemon_grpc.core.once import Claim, Once
from kotaemon_grpc.core.paging import PageTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class FakeFile:
    def __init__(self) -> None:
        self.content = b""

    async def write(self, chunk: bytes) -> None:
        self.content += chunk

    async def finish(self) -> bytes:
        return self.content


class FakeSpool:
    @asynccontextmanager
    async def open(self) -> AsyncIterator[FakeFile]:
        yield FakeFile()


class FakeParser:
    """Says that the document has one heading, whatever it has."""

    def __init__(self, heading: str) -> None:
        self.heading = heading

    async def parse(self, _content: bytes, _mime_type: str) -> ParsedDocument:
        return ParsedDocument(self.heading, (Passage("text", Location((), 0, 4)),))


class FakeStore:
    """Keeps the last draft."""

    draft: DocumentDraft

    async def put(
        self, _scope: Scope, draft: DocumentDraft, *, replace: bool, claim: Claim | None
    ) -> tuple[None, ImportOutcome]:
        del claim
        self.draft = draft
        return None, ImportOutcome.REPLACED if replace else ImportOutcome.CREATED


NO_REQUESTS: Any = None  # none of these documents has a request_id


class CountingExecutor(ThreadPoolExecutor):
    """Counts what is handed to its threads."""

    handed = 0

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.handed += 1
        return super().submit(*args, **kwargs)


async def ingested(header: DocumentHeader, *chunks: bytes, heading: str = "") -> DocumentDraft:
    """Take a document in and return what was stored."""

    async def content() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    store: Any = FakeStore()
    parser: Any = FakeParser(heading)
    documents = Documents(
        store=store,
        parser=parser,
        spool=FakeSpool(),
        once=Once(NO_REQUESTS),
        tokens=PageTokens(b"k" * 32),
        max_document_bytes=1 << 30,
    )
    await documents.ingest(header, content(), replace=False)
    draft: DocumentDraft = store.draft
    return draft


@pytest.mark.parametrize(("size", "handed"), [(1, 0), (64 * 1024, 0), (64 * 1024 + 1, 3)])
async def test_large_chunks_are_hashed_on_threads(size: int, handed: int) -> None:
    with CountingExecutor() as executor:
        asyncio.get_running_loop().set_default_executor(executor)
        chunks = [bytes([number]) * size for number in range(3)]
        draft = await ingested(DocumentHeader(Scope("acme")), *chunks)
        assert executor.handed == handed
    assert draft.sha256 == hashlib.sha256(b"".join(chunks)).hexdigest()


@pytest.mark.parametrize(
    ("given", "heading", "uri", "title"),
    [
        ("Mine", "Heading", "file:///a.md", "Mine"),
        ("", "Heading", "file:///a.md", "Heading"),
        ("", "a\x00b\t c\x1b", "file:///a.md", "a b c"),
        ("", "\x07", "file:///a%0Ab.md", "a b.md"),
        ("", "h" * 600, "file:///a.md", "h" * 512),
    ],
)
async def test_a_title_is_found_and_has_no_control_characters(
    given: str, heading: str, uri: str, title: str
) -> None:
    header = DocumentHeader(Scope("acme"), title=given, uri=uri)
    assert (await ingested(header, b"x", heading=heading)).title == title
