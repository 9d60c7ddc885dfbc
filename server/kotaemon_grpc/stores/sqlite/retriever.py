"""Finding passages, behind `core.ports.Retriever`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import DeadlineExceeded, StorageUnavailable
from kotaemon_grpc.core.model import DocumentRef, Hit, Location, Passage, Retrieval
from kotaemon_grpc.retrieval.query import weighted_terms
from kotaemon_grpc.stores.sqlite.index import IndexFault, PassageIndex, Snapshot, idf

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.model import Query, Scope
    from kotaemon_grpc.stores.sqlite.indexer import Indexer
    from kotaemon_grpc.stores.sqlite.readers import Readers

_ATTEMPTS = 3  # an index may be found damaged, be let go meanwhile, and be found so again


class _Damaged(Exception):
    """The index is not to be used; `index` is None if it could not even be opened."""

    def __init__(self, index: PassageIndex | None) -> None:
        super().__init__()
        self.index = index


class SqliteRetriever:
    """Finds passages by BM25 over the analysed terms."""

    def __init__(self, readers: Readers, indexer: Indexer) -> None:
        """Take the parts of the store."""
        self._readers = readers
        self._indexer = indexer

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        """Find the passages of the scope that fit best. None fit, or no more: no hits.

        Raises:
            DeadlineExceeded: the caller's time was up before a thread began.
            StorageUnavailable: the store cannot be read.
        """

        def read(connection: sqlite3.Connection) -> Retrieval:
            # It may have waited for a thread, and nobody would have what it finds.
            if not context.remaining_s():
                raise DeadlineExceeded
            return self._retrieve(connection, scope, query)

        for _ in range(_ATTEMPTS):
            try:
                return await self._readers.run(read)
            except _Damaged as damaged:
                await asyncio.wrap_future(self._indexer.healed(scope, damaged.index))
        raise StorageUnavailable

    def _retrieve(self, connection: sqlite3.Connection, scope: Scope, query: Query) -> Retrieval:
        weights = weighted_terms(query)
        index = None
        try:
            index = self._indexer.index(scope)
            if index is None:
                return Retrieval((), dict.fromkeys(weights, idf(0, 0)))
            snapshot = index.snapshot()
            hits = _hits(connection, snapshot, scope, weights, query)
            return Retrieval(tuple(hits), snapshot.idf(weights))
        except IndexFault as fault:
            raise _Damaged(index) from fault


def _hits(
    connection: sqlite3.Connection,
    snapshot: Snapshot,
    scope: Scope,
    weights: Mapping[str, float],
    query: Query,
) -> list[Hit]:
    hits: list[Hit] = []
    limit, offset = query.limit, query.offset
    while len(hits) < limit:
        found = snapshot.search(weights, limit, offset)
        hits += _joined(connection, scope, found)
        # Passages that were deleted since the snapshot make room for the next best.
        if len(found) < limit:
            break
        offset += limit
    return hits[:limit]


def _joined(
    connection: sqlite3.Connection, scope: Scope, found: Sequence[tuple[float, int]]
) -> list[Hit]:
    if not found:
        return []
    marks = ",".join("?" * len(found))
    rows = connection.execute(
        "SELECT p.pk, p.headings, p.start_offset, p.end_offset, p.text, d.id, d.title, d.uri"  # noqa: S608 - marks only
        " FROM passages p JOIN documents d ON d.pk = p.document"
        f" WHERE p.pk IN ({marks}) AND p.tenant = ? AND p.collection = ?",
        (*(key for _, key in found), scope.tenant, scope.collection),
    )
    by_key = {row[0]: row for row in rows}
    hits = []
    for score, key in found:
        row = by_key.get(key)
        if row is not None:
            _, headings, start, end, text, document, title, uri = row
            passage = Passage(text, Location(tuple(json.loads(headings)), start, end))
            hits.append(Hit(DocumentRef(document, scope, title, uri), passage, score))
    return hits
