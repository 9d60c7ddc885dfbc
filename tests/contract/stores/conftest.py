"""The stores that must pass the suite, and what the tests put into them."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.model import (
    Answer,
    Citation,
    DocumentDraft,
    DocumentRef,
    FinishReason,
    Location,
    Passage,
    Scope,
    Span,
    Usage,
)
from kotaemon_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

STORES = {"sqlite": SqliteStore.open}
"""For each store what opens it: takes a directory and a clock."""


class Clock:
    """A clock that goes on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = datetime(2024, 5, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
async def reopen(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Open the store, after closing the one that was opened before."""
    opened: list[Any] = []

    async def close() -> None:
        while opened:
            await asyncio.to_thread(opened.pop().close)

    async def open_again() -> Any:
        await close()
        opened.append(
            await asyncio.to_thread(STORES[request.param], tmp_path / "data", clock=clock)
        )
        return opened[0]

    yield open_again
    await close()


@pytest.fixture
async def store(reopen: Callable[[], Awaitable[Any]]) -> Any:
    return await reopen()


@pytest.fixture
def draft() -> Callable[..., DocumentDraft]:
    """Make a document of an id and the texts of its passages."""

    def make(document_id: str, *texts: str, **fields: Any) -> DocumentDraft:
        content = "\n".join(texts)
        passages = []
        start = 0
        for text in texts:
            passages.append(Passage(text, Location(("Guide",), start, start + len(text))))
            start += len(text) + 1
        values = {
            "title": "Guide",
            "uri": f"file:///{document_id}.md",
            "mime_type": "text/markdown",
            "size_bytes": len(content.encode()),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
            "passages": tuple(passages),
        }
        return DocumentDraft(id=document_id, **(values | fields))

    return make


@pytest.fixture
def turn() -> Callable[..., Turn]:
    """Make a turn of a question, with an answer that has everything."""

    def make(question: str, minute: int = 0) -> Turn:
        citation = Citation(
            document=DocumentRef("guide", Scope("acme", "manuals"), "Guide", "file:///guide.md"),
            location=Location(("Guide", "密钥"), 3, 9),
            snippet="the key",
            score=1.25,
            spans=(Span(0, 7), Span(9, 12)),
        )
        answer = Answer("the key … 密钥", (citation,), FinishReason.ANSWERED, Usage(3, 5, 7))
        return Turn(0, "manuals", question, answer, datetime(2024, 6, 1, 8, minute, tzinfo=UTC))

    return make
