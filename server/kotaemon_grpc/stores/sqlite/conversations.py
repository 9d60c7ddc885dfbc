"""The conversations, behind `core.ports.ConversationStore`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.core.conversation import Conversation, Turn
from kotaemon_grpc.core.errors import AlreadyExists, NotFound, ResourceType
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.core.once import Deleted
from kotaemon_grpc.core.paging import Page
from kotaemon_grpc.core.titles import title_from
from kotaemon_grpc.stores.sqlite.answers import answer_from_json, answer_to_json
from kotaemon_grpc.stores.sqlite.connection import time_from_us, time_to_us
from kotaemon_grpc.stores.sqlite.outcomes import outcome_to_row, turn_to_row
from kotaemon_grpc.stores.sqlite.requests import record, require_new

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from kotaemon_grpc.core.once import Claim
    from kotaemon_grpc.stores.sqlite.readers import Readers
    from kotaemon_grpc.stores.sqlite.writer import Transaction, Writer

_TITLE_CHARS = 80
_COLUMNS = "id, title, turn_count, created_at, updated_at"
_FIRST_COLLECTION = (
    "(SELECT collection FROM turns WHERE turns.tenant = conversations.tenant"
    " AND turns.conversation = conversations.id AND number = 1)"
)
_TURN_COLUMNS = "number, collection, question, answer, created_at"


class SqliteConversations:
    """Keeps conversations. Keys of pages are `microseconds:id` of the last one."""

    def __init__(self, writer: Writer, readers: Readers, clock: Callable[[], datetime]) -> None:
        """Take the parts of the store."""
        self._writer = writer
        self._readers = readers
        self._clock = clock

    async def create(
        self, tenant: str, conversation_id: str, title: str, *, claim: Claim | None = None
    ) -> Conversation:
        """Create an empty conversation.

        Raises:
            AlreadyExists: the id is taken.
            AlreadyDone, RequestIdReused: of the claim, see `require_new`.
        """

        def operation(transaction: Transaction) -> Conversation:
            connection = transaction.connection
            now_us = time_to_us(self._clock())
            require_new(connection, claim)
            made = _create(connection, tenant, conversation_id, title, now_us)
            record(connection, claim, now_us, outcome_to_row(made))
            return made

        return await self._writer.run(operation)

    async def get(self, tenant: str, conversation_id: str) -> Conversation | None:
        """Get a conversation, or None."""
        return await self._readers.run(
            lambda connection: _find(connection, tenant, conversation_id)
        )

    async def list(self, tenant: str, *, after: str, limit: int) -> Page[Conversation]:
        """List conversations, newest creation first; `after` is a key of a page, or empty."""
        before: tuple[Any, ...] = ()
        if after:
            created_us, _, last_id = after.partition(":")
            before = (int(created_us), last_id)

        def read(connection: sqlite3.Connection) -> Page[Conversation]:
            rows = connection.execute(
                f"SELECT {_COLUMNS}, {_FIRST_COLLECTION}"  # noqa: S608 - constants only
                " FROM conversations WHERE tenant = ?"
                f"{' AND (created_at, id) < (?, ?)' if before else ''}"
                " ORDER BY created_at DESC, id DESC LIMIT ?",
                (tenant, *before, limit + 1),
            ).fetchall()
            shown = rows[:limit]
            next_key = f"{shown[-1][3]}:{shown[-1][0]}" if len(rows) > limit else ""
            return Page(tuple(_conversation(row) for row in shown), next_key)

        return await self._readers.run(read)

    async def delete(
        self, tenant: str, conversation_id: str, *, claim: Claim | None = None
    ) -> bool:
        """Delete a conversation and its turns; False if there is none.

        Raises:
            AlreadyDone, RequestIdReused: of the claim, see `require_new`.
        """

        def operation(transaction: Transaction) -> bool:
            where = (tenant, conversation_id)
            connection = transaction.connection
            require_new(connection, claim)
            connection.execute("DELETE FROM turns WHERE tenant = ? AND conversation = ?", where)
            gone = connection.execute(
                "DELETE FROM conversations WHERE tenant = ? AND id = ?", where
            )
            if not gone.rowcount:
                return False
            record(connection, claim, time_to_us(self._clock()), outcome_to_row(Deleted()))
            return True

        return await self._writer.run(operation)

    async def append(
        self,
        tenant: str,
        conversation_id: str,
        turn: Turn,
        *,
        create: bool = False,
        claim: Claim | None = None,
    ) -> Turn:
        """Add a turn at the end and return it with its number; the number given is not read.

        With `create`, the conversation comes into being with the turn: both are
        stored, or neither.

        Raises:
            NotFound: the conversation does not exist, and `create` is false.
            AlreadyExists: the conversation exists, and `create` is true.
            AlreadyDone, RequestIdReused: of the claim, see `require_new`.
        """

        def operation(transaction: Transaction) -> Turn:
            connection = transaction.connection
            created_us = time_to_us(turn.created_at)
            require_new(connection, claim)
            if create:
                _create(connection, tenant, conversation_id, "", created_us)
            added = _append(connection, tenant, conversation_id, turn)
            kept = turn_to_row(conversation_id, added.number, created_us)
            record(connection, claim, time_to_us(self._clock()), kept)
            return added

        return await self._writer.run(operation)

    async def turns(
        self, tenant: str, conversation_id: str, *, after: int, limit: int
    ) -> Sequence[Turn]:
        """Return the turns with a number above `after`, oldest first."""

        def read(connection: sqlite3.Connection) -> Sequence[Turn]:
            rows = connection.execute(
                f"SELECT {_TURN_COLUMNS} FROM turns"  # noqa: S608 - constants only
                " WHERE tenant = ? AND conversation = ? AND number > ? ORDER BY number LIMIT ?",
                (tenant, conversation_id, after, limit),
            ).fetchall()
            return tuple(_turn(row) for row in rows)

        return await self._readers.run(read)

    async def latest_turns(self, tenant: str, conversation_id: str, limit: int) -> Sequence[Turn]:
        """Return the last turns, oldest of them first."""

        def read(connection: sqlite3.Connection) -> Sequence[Turn]:
            rows = connection.execute(
                f"SELECT {_TURN_COLUMNS} FROM turns"  # noqa: S608 - constants only
                " WHERE tenant = ? AND conversation = ? ORDER BY number DESC LIMIT ?",
                (tenant, conversation_id, limit),
            ).fetchall()
            return tuple(_turn(row) for row in reversed(rows))

        return await self._readers.run(read)

    async def purge(self, older_than: datetime) -> int:
        """Delete the conversations of all tenants whose last change is older; return how many."""
        limit_us = time_to_us(older_than)

        def operation(transaction: Transaction) -> int:
            connection = transaction.connection
            connection.execute(
                "DELETE FROM turns WHERE (tenant, conversation) IN"
                " (SELECT tenant, id FROM conversations WHERE updated_at < ?)",
                (limit_us,),
            )
            gone = connection.execute("DELETE FROM conversations WHERE updated_at < ?", (limit_us,))
            return gone.rowcount

        return await self._writer.run(operation)


def _find(connection: sqlite3.Connection, tenant: str, conversation_id: str) -> Conversation | None:
    row = connection.execute(
        f"SELECT {_COLUMNS}, {_FIRST_COLLECTION}"  # noqa: S608 - constants only
        " FROM conversations WHERE tenant = ? AND id = ?",
        (tenant, conversation_id),
    ).fetchone()
    return None if row is None else _conversation(row)


def _create(
    connection: sqlite3.Connection, tenant: str, conversation_id: str, title: str, now_us: int
) -> Conversation:
    row = (conversation_id, title, 0, now_us, now_us)
    inserted = connection.execute(
        f"INSERT INTO conversations ({_COLUMNS}, tenant)"  # noqa: S608 - constants only
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (*row, tenant),
    )
    if not inserted.rowcount:
        raise AlreadyExists(ResourceType.CONVERSATION, conversation_name(conversation_id))
    return _conversation((*row, None))


def _append(connection: sqlite3.Connection, tenant: str, conversation_id: str, turn: Turn) -> Turn:
    conversation = _find(connection, tenant, conversation_id)
    if conversation is None:
        raise NotFound(ResourceType.CONVERSATION, conversation_name(conversation_id))
    number = conversation.turn_count + 1
    created_us = time_to_us(turn.created_at)
    connection.execute(
        f"INSERT INTO turns ({_TURN_COLUMNS}, tenant, conversation)"  # noqa: S608 - constants only
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(number, turn.collection, turn.question, answer_to_json(turn.answer), created_us),
            *(tenant, conversation_id),
        ),
    )
    title = conversation.title
    if number == 1 and not title:
        title = title_from(turn.question, _TITLE_CHARS)
    connection.execute(
        "UPDATE conversations SET turn_count = ?, title = ?, updated_at = ?"
        " WHERE tenant = ? AND id = ?",
        (number, title, created_us, tenant, conversation_id),
    )
    return replace(turn, number=number, created_at=time_from_us(created_us))


def _conversation(row: tuple[Any, ...]) -> Conversation:
    conversation_id, title, turn_count, created_us, updated_us, collection = row
    return Conversation(
        id=conversation_id,
        title=title,
        turn_count=turn_count,
        created_at=time_from_us(created_us),
        updated_at=time_from_us(updated_us),
        collection=collection or "",
    )


def _turn(row: tuple[Any, ...]) -> Turn:
    number, collection, question, answer, created_us = row
    return Turn(number, collection, question, answer_from_json(answer), time_from_us(created_us))
