"""What has changed in a scope since its index was last brought up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import Location, Passage, Scope
from kotaemon_grpc.retrieval.analysis import passage_terms

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator


def outdated_documents(
    connection: sqlite3.Connection, scope: Scope, since: int, *, even_new: bool
) -> Generator[int, None, None]:
    """Yield the keys of the documents whose passages are to be taken out of the index.

    Args:
        connection: in a transaction.
        scope: whose index it is.
        since: the sequence number that the index tells of.
        even_new: also those that an index at `since` does not have yet.
    """
    where = (scope.tenant, scope.collection, since)
    for (key,) in connection.execute(
        "SELECT document FROM deletions WHERE tenant = ? AND collection = ? AND seq > ?", where
    ):
        yield key
    for (key,) in connection.execute(
        "SELECT pk FROM documents WHERE tenant = ? AND collection = ? AND seq > ?"
        " AND (first_seq <= ? OR ?)",
        (*where, since, even_new),
    ):
        yield key


def changed_passages(
    connection: sqlite3.Connection, scope: Scope, since: int
) -> Generator[tuple[int, int, list[str]], None, None]:
    """Yield the keys, the documents' keys and the terms of the passages that come in.

    Args:
        connection: in a transaction.
        scope: whose index it is.
        since: the sequence number that the index tells of.
    """
    rows = connection.execute(
        "SELECT p.pk, d.pk, d.title, p.headings, p.text"
        " FROM documents d JOIN passages p ON p.document = d.pk"
        " WHERE d.tenant = ? AND d.collection = ? AND d.seq > ? ORDER BY d.seq, p.pk",
        (scope.tenant, scope.collection, since),
    )
    for key, document, title, headings, text in rows:
        passage = Passage(text, Location(tuple(json.loads(headings)), 0, len(text)))
        yield key, document, passage_terms(title, passage)
