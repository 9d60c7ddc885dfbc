"""What came of requests that have a name, behind `core.ports.RequestStore`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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

    from kotaemon_grpc.core.once import Claim, Outcome
    from kotaemon_grpc.stores.sqlite.indexer import Indexer
    from kotaemon_grpc.stores.sqlite.readers import Readers
    from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

_PURGED_AT_ONCE = 1000  # some milliseconds, for which other writes wait


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
            require_new(transaction.connection, claim)
            record(
                transaction.connection, claim, time_to_us(self._clock()), outcome_to_row(outcome)
            )

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


def require_new(connection: sqlite3.Connection, claim: Claim | None) -> None:
    """Go on if there is no claim, or one without an outcome.

    Args:
        connection: in the transaction of the change.
        claim: to be recorded in it.

    Raises:
        AlreadyDone: it has an outcome.
        RequestIdReused: the id was used for another request.
    """
    if claim is not None and _find(connection, claim) is not None:
        raise AlreadyDone


def record(
    connection: sqlite3.Connection, claim: Claim | None, now_us: int, row: tuple[str, str]
) -> None:
    """Record the kind and the JSON of what came of a claim, if there is one."""
    if claim is not None:
        connection.execute(
            "INSERT INTO requests"
            " (tenant, principal, id, fingerprint, kind, outcome, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*claim.key, claim.fingerprint, *row, now_us),
        )


def _find(connection: sqlite3.Connection, claim: Claim) -> tuple[str, str] | None:
    row = connection.execute(
        "SELECT fingerprint, kind, outcome FROM requests"
        " WHERE tenant = ? AND principal = ? AND id = ?",
        claim.key,
    ).fetchone()
    if row is None:
        return None
    fingerprint, kind, outcome = row
    if fingerprint != claim.fingerprint:
        raise RequestIdReused(claim.field)
    return kind, outcome


def _outcome(connection: sqlite3.Connection, claim: Claim) -> tuple[Outcome, int] | None:
    """Return an outcome and, of a document, the number of the change that retrieval has to see."""
    row = _find(connection, claim)
    if row is None:
        return None
    kind, text = row
    if kind == DOCUMENT:
        return stored_from_row(text, claim.tenant)
    if kind == TURN:
        return _kept_answer(connection, claim.tenant, text), 0
    return outcome_from_row(kind, text), 0


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
