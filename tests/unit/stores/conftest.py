"""Documents to store, and stores that are closed after the test."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.model import DocumentDraft, Location, Passage
from kotaemon_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def draft() -> Callable[..., DocumentDraft]:
    """Make a document of an id and the texts of its passages."""

    def make(document_id: str, *texts: str) -> DocumentDraft:
        content = "\n".join(texts)
        return DocumentDraft(
            id=document_id,
            title="Guide",
            uri=f"file:///{document_id}.md",
            mime_type="text/plain",
            size_bytes=len(content.encode()),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
            passages=tuple(Passage(text, Location((), 0, len(text))) for text in texts),
        )

    return make


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def open_store(data_dir: Path) -> Iterator[Callable[[], SqliteStore]]:
    """Open the store of `data_dir`, after closing the one that was opened before."""
    opened: list[SqliteStore] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def reopen() -> SqliteStore:
        close()
        opened.append(SqliteStore.open(data_dir))
        return opened[0]

    yield reopen
    close()
