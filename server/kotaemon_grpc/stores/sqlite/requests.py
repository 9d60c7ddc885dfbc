"""What came of requests that have a name, behind `core.ports.RequestStore`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from kotaemon_grpc.core.errors import NotFound, RequestIdReused, ResourceType
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.core.once import AlreadyDone, Answered, Stored
from kotaemon_grpc.stores.sqlite.answers import answer_from_json
from kotaemon_grpc.stores.sqlite.connection import time_to_us
from kotaemon_grpc.stores.sqlite.outcomes import (
    DOCUMENT,
    TURN,
    outcome_from_row,
    outcome_to_row,
    stored_from_row,
    turn_from_row,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from datetime import datetime

    from kotaemon_grpc.core.model import DocumentRef
    from kotaemon_grpc.core.once import Claim, Outcome
    from kotaemon_grpc.stores.sqlite.indexer import Indexer
    from kotaemon_grpc.stores.sqlite.readers import Readers
    from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

_PURGED_AT_ONCE = 1000  # some milliseconds, for which other writes wait
_DROPPED_AT_ONCE = 16  # by each insert; more than one are too many only after the limit was lowered


class SqliteRequests:
    """Remembers outcomes."""

    def __init__(
        self, writer: Writer, readers: Readers, indexer: Indexer, clock: Callable[[], datetime]
    ) -> None:
        """Take the parts of the store."""
        self._writer = writer
        self._readers = readers
        self._indexer = indexer
        self._clock = clock

    async def outcome(self, claim: Claim) -> Outcome | None:
        """Return what came of a claim, or None; of a document, once retrieval finds it.

        An answer that nothing else keeps is forgotten when a document that it cites was
        deleted or replaced since.

        Raises:
            NotFound: the conversation that keeps the answer was deleted since.
            RequestIdReused: the id was used for another request.
        """
        found = await self._readers.run(lambda connection: _outcome(connection, claim))
        if found is None:
            return None
        outcome, seq = found
        if seq and isinstance(outcome, Stored):
            await asyncio.wrap_future(self._indexer.reached(outcome.document.scope, seq))
        return outcome

    async def remember(self, claim: Claim, outcome: Outcome) -> None:
        """Record what came of a claim that has changed nothing in another store.

        Raises:
            AlreadyDone: it has an outcome.
            RequestIdReused: the id was used for another request.
        """

        def operation(transaction: Transaction) -> None:
            connection, row = transaction.connection, outcome_to_row(outcome)
            require_new(connection, claim)
            record(connection, claim, time_to_us(self._clock()), row, seq=transaction.sequence)

        await self._writer.run(operation)

    async def purge(self, older_than: datetime) -> int:
        """Forget the outcomes that are older; return how many."""
        limit_us = time_to_us(older_than)

        def operation(transaction: Transaction) -> int:
            gone = transaction.connection.execute(
                "DELETE FROM requests WHERE pk IN"
                " (SELECT pk FROM requests WHERE created_at < ? LIMIT ?)",
                (limit_us, _PURGED_AT_ONCE),
            )
            return gone.rowcount

        total = 0
        while count := await self._writer.run(operation):
            total += count
        return total


def limit_count(connection: sqlite3.Connection, max_count: int) -> None:
    """Have each insert on a connection drop the oldest outcomes beyond a limit.

    Args:
        connection: that writes.
        max_count: how many are kept, above 0.
    """
    # A new key is one above the highest, so that keys have the order of their insertion
    # and at most `max_count` of them lie within that distance: nothing has to be counted.
    connection.execute(
        "CREATE TEMP TRIGGER requests_limited"  # noqa: S608 - numbers only
        " AFTER INSERT ON main.requests BEGIN"
        " DELETE FROM requests WHERE pk IN (SELECT pk FROM requests"
        f" WHERE pk <= new.pk - {max_count:d}"
        f" ORDER BY pk LIMIT {_DROPPED_AT_ONCE}); END"
    )


class _Row(NamedTuple):
    pk: int
    kind: str
    outcome: str
    seq: int


def require_new(connection: sqlite3.Connection, claim: Claim | None) -> None:
    """Go on if there is no claim, or one without an outcome; an outdated one is dropped.

    Args:
        connection: in the transaction of the change.
        claim: to be recorded in it.

    Raises:
        AlreadyDone: it has an outcome.
        RequestIdReused: the id was used for another request.
    """
    row = None if claim is None else _find(connection, claim)
    if row is None:
        return
    if row.kind in (TURN, DOCUMENT) or _lasting(connection, row) is not None:
        raise AlreadyDone
    connection.execute("DELETE FROM requests WHERE pk = ?", (row.pk,))


def record(
    connection: sqlite3.Connection,
    claim: Claim | None,
    now_us: int,
    row: tuple[str, str],
    *,
    seq: int = 0,
) -> None:
    """Record what came of a claim, if there is one.

    Args:
        connection: in the transaction of the change.
        claim: whose outcome it is.
        now_us: the time.
        row: the kind and the JSON of the outcome.
        seq: of an answer, the number of the latest change of a document.
    """
    if claim is not None:
        connection.execute(
            "INSERT INTO requests"
            " (tenant, principal, id, fingerprint, kind, outcome, created_at, seq)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*claim.key, claim.fingerprint, *row, now_us, seq),
        )


def _find(connection: sqlite3.Connection, claim: Claim) -> _Row | None:
    row = connection.execute(
        "SELECT fingerprint, pk, kind, outcome, seq FROM requests"
        " WHERE tenant = ? AND principal = ? AND id = ?",
        claim.key,
    ).fetchone()
    if row is None:
        return None
    fingerprint, *known = row
    if fingerprint != claim.fingerprint:
        raise RequestIdReused(claim.field)
    return _Row(*known)


def _outcome(connection: sqlite3.Connection, claim: Claim) -> tuple[Outcome, int] | None:
    """Return an outcome and, of a document, the number of the change that retrieval has to see."""
    row = _find(connection, claim)
    if row is None:
        return None
    if row.kind == DOCUMENT:
        return stored_from_row(row.outcome, claim.tenant)
    if row.kind == TURN:
        return _kept_answer(connection, claim.tenant, row.outcome), 0
    outcome = _lasting(connection, row)
    return None if outcome is None else (outcome, 0)


def _lasting(connection: sqlite3.Connection, row: _Row) -> Outcome | None:
    """Return an outcome, but no answer that cites what was deleted or replaced since."""
    outcome = outcome_from_row(row.kind, row.outcome)
    if isinstance(outcome, Answered):
        cited = {citation.document for citation in outcome.answer.citations}
        if not all(_is_unchanged(connection, document, row.seq) for document in cited):
            return None
    return outcome


def _is_unchanged(connection: sqlite3.Connection, document: DocumentRef, seq: int) -> bool:
    found = connection.execute(
        "SELECT 1 FROM documents WHERE tenant = ? AND collection = ? AND id = ? AND seq <= ?",
        (document.scope.tenant, document.scope.collection, document.id, seq),
    ).fetchone()
    return found is not None


def _kept_answer(connection: sqlite3.Connection, tenant: str, text: str) -> Answered:
    conversation, number, created_us = turn_from_row(text)
    # By its time, too: the id may have been given to another conversation since.
    row = connection.execute(
        "SELECT answer FROM turns WHERE tenant = ? AND conversation = ? AND number = ?"
        " AND created_at = ?",
        (tenant, conversation, number, created_us),
    ).fetchone()
    if row is None:
        raise NotFound(ResourceType.CONVERSATION, conversation_name(conversation))
    return Answered(answer_from_json(row[0]), conversation)
