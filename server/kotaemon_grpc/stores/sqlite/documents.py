"""The documents, behind `core.ports.DocumentStore`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.core.errors import AlreadyExists, ResourceType
from kotaemon_grpc.core.model import (
    DEFAULT_COLLECTION,
    Document,
    DocumentDraft,
    ImportOutcome,
    IndexingState,
    Scope,
)
from kotaemon_grpc.core.names import document_name
from kotaemon_grpc.core.once import Deleted, Stored
from kotaemon_grpc.core.paging import Page
from kotaemon_grpc.stores.sqlite.connection import time_from_us, time_to_us
from kotaemon_grpc.stores.sqlite.outcomes import outcome_to_row, stored_to_row
from kotaemon_grpc.stores.sqlite.requests import record, require_new

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from datetime import datetime

    from kotaemon_grpc.core.once import Claim
    from kotaemon_grpc.stores.sqlite.indexer import Indexer
    from kotaemon_grpc.stores.sqlite.readers import Readers
    from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

_COLUMNS = (
    "pk, first_seq, seq, id, title, uri, mime_type, size_bytes, sha256, passage_count,"
    " created_at, updated_at"
)
_IN_SCOPE = "tenant = ? AND collection = ?"


class SqliteDocuments:
    """Keeps documents. A collection exists while it holds one.

    When the index cannot be written, as on a full disk, `put` raises although
    the document is kept: retrieval finds it as soon as the index can be written.
    """

    def __init__(
        self, writer: Writer, readers: Readers, indexer: Indexer, clock: Callable[[], datetime]
    ) -> None:
        """Take the parts of the store."""
        self._writer = writer
        self._readers = readers
        self._indexer = indexer
        self._clock = clock

    async def collection_exists(self, scope: Scope) -> bool:
        """Tell whether the scope holds a document; the default collection always exists."""
        if scope.collection == DEFAULT_COLLECTION:
            return True
        return await self._readers.run(lambda connection: _holds_any(connection, scope))

    async def put(
        self, scope: Scope, draft: DocumentDraft, *, replace: bool, claim: Claim | None = None
    ) -> tuple[Document, ImportOutcome]:
        """Store a document, whole or not at all, and wait until retrieval finds it.

        Raises:
            AlreadyExists: the id is taken, and `replace` is false.
            AlreadyDone, RequestIdReused: of the claim, see `require_new`.
        """

        def operation(transaction: Transaction) -> tuple[Document, ImportOutcome, int]:
            now_us = time_to_us(self._clock())
            require_new(transaction.connection, claim)
            document, outcome, seq = _put(transaction, scope, draft, now_us, replace=replace)
            kept = stored_to_row(Stored(document, outcome), seq)
            record(transaction.connection, claim, now_us, kept)
            return document, outcome, seq

        document, outcome, seq = await self._writer.run(operation)
        await asyncio.wrap_future(self._indexer.reached(scope, seq))
        return changed(document, indexing_state=IndexingState.INDEXED), outcome

    async def get(self, scope: Scope, document_id: str) -> Document | None:
        """Get a document with its present indexing state, or None."""

        def read(connection: sqlite3.Connection) -> Document | None:
            applied = self._indexer.applied(scope)
            row = _find(connection, scope, document_id)
            return None if row is None else _document(scope, row, applied)

        return await self._readers.run(read)

    async def list(self, scope: Scope, *, after: str, limit: int) -> Page[Document]:
        """List the documents with an id above `after`, by id. Keys of pages are ids."""

        def read(connection: sqlite3.Connection) -> Page[Document]:
            applied = self._indexer.applied(scope)
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM documents"  # noqa: S608 - constants only
                f" WHERE {_IN_SCOPE} AND id > ? ORDER BY id LIMIT ?",
                (scope.tenant, scope.collection, after, limit + 1),
            ).fetchall()
            items = tuple(_document(scope, row, applied) for row in rows[:limit])
            return Page(items, items[-1].id if len(rows) > limit else "")

        return await self._readers.run(read)

    async def delete(self, scope: Scope, document_id: str, *, claim: Claim | None = None) -> bool:
        """Delete a document; False if there is none.

        Raises:
            AlreadyDone, RequestIdReused: of the claim, see `require_new`.
        """

        def operation(transaction: Transaction) -> bool:
            connection = transaction.connection
            require_new(connection, claim)
            if not _delete(transaction, scope, document_id, self._indexer.applied(scope)):
                return False
            record(connection, claim, time_to_us(self._clock()), outcome_to_row(Deleted()))
            return True

        return await self._writer.run(operation)


def _holds_any(connection: sqlite3.Connection, scope: Scope) -> bool:
    row = connection.execute(
        "SELECT 1 FROM documents WHERE tenant = ? AND collection = ? LIMIT 1",
        (scope.tenant, scope.collection),
    ).fetchone()
    return row is not None


def _find(connection: sqlite3.Connection, scope: Scope, document_id: str) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE {_IN_SCOPE} AND id = ?",  # noqa: S608 - constants
        (scope.tenant, scope.collection, document_id),
    ).fetchone()
    return row


def _document(scope: Scope, row: tuple[Any, ...], applied: int) -> Document:
    _, _, seq, document_id, title, uri, mime_type, size, sha256, passages, created, updated = row
    return Document(
        id=document_id,
        scope=scope,
        title=title,
        uri=uri,
        mime_type=mime_type,
        size_bytes=size,
        sha256=sha256,
        passage_count=passages,
        indexing_state=IndexingState.INDEXED if seq <= applied else IndexingState.INDEXING,
        created_at=time_from_us(created),
        updated_at=time_from_us(updated),
    )


def _put(
    transaction: Transaction, scope: Scope, draft: DocumentDraft, now_us: int, *, replace: bool
) -> tuple[Document, ImportOutcome, int]:
    connection = transaction.connection
    taken = _find(connection, scope, draft.id)
    if taken is not None:
        if not replace:
            raise AlreadyExists(ResourceType.DOCUMENT, document_name(scope.collection, draft.id))
        stored = _document(scope, taken, applied=0)
        if _is_same(stored, draft):
            return stored, ImportOutcome.UNCHANGED, taken[2]
        connection.execute("DELETE FROM passages WHERE document = ?", (taken[0],))
    seq = transaction.next_seq(scope)
    pk, first_seq, created_us = None, seq, now_us
    if taken is not None:
        pk, first_seq, created_us = taken[0], taken[1], taken[-2]
    row = (
        *(pk, first_seq, seq, draft.id, draft.title, draft.uri, draft.mime_type),
        *(draft.size_bytes, draft.sha256, len(draft.passages), created_us, now_us),
    )
    (pk,) = connection.execute(
        f"INSERT INTO documents ({_COLUMNS}, tenant, collection)"  # noqa: S608 - constants only
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (pk) DO UPDATE SET seq = excluded.seq, title = excluded.title,"
        " uri = excluded.uri, mime_type = excluded.mime_type, size_bytes = excluded.size_bytes,"
        " sha256 = excluded.sha256, passage_count = excluded.passage_count,"
        " updated_at = excluded.updated_at RETURNING pk",
        (*row, scope.tenant, scope.collection),
    ).fetchone()
    _insert_passages(connection, scope, pk, draft)
    outcome = ImportOutcome.CREATED if taken is None else ImportOutcome.REPLACED
    return _document(scope, row, applied=0), outcome, seq


def _is_same(stored: Document, draft: DocumentDraft) -> bool:
    return (stored.sha256, stored.title, stored.uri, stored.mime_type) == (
        draft.sha256,
        draft.title,
        draft.uri,
        draft.mime_type,
    )


def _insert_passages(
    connection: sqlite3.Connection, scope: Scope, pk: int, draft: DocumentDraft
) -> None:
    connection.executemany(
        "INSERT INTO passages"
        " (tenant, collection, document, headings, start_offset, end_offset, text)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                *(scope.tenant, scope.collection, pk),
                json.dumps(passage.location.headings, ensure_ascii=False),
                *(passage.location.start, passage.location.end, passage.text),
            )
            for passage in draft.passages
        ),
    )


def _delete(transaction: Transaction, scope: Scope, document_id: str, applied: int) -> bool:
    connection = transaction.connection
    row = _find(connection, scope, document_id)
    if row is None:
        return False
    pk = row[0]
    connection.execute("DELETE FROM passages WHERE document = ?", (pk,))
    connection.execute("DELETE FROM documents WHERE pk = ?", (pk,))
    where = (scope.tenant, scope.collection)
    # What the index has seen need not be recorded any longer.
    forgotten = connection.execute(
        f"DELETE FROM deletions WHERE {_IN_SCOPE} AND seq <= ?",  # noqa: S608 - constants only
        (*where, applied),
    )
    if forgotten.rowcount:
        connection.execute(
            f"UPDATE scopes SET forgotten_seq = ? WHERE {_IN_SCOPE}",  # noqa: S608 - constants only
            (applied, *where),
        )
    connection.execute(
        "INSERT INTO deletions (tenant, collection, seq, document) VALUES (?, ?, ?, ?)",
        (*where, transaction.next_seq(scope), pk),
    )
    return True
