"""The embedded store, whole: one database, its index, and the four ports on them."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import AgentError, OperatorError, StorageFull, StorageUnavailable
from kotaemon_grpc.stores.sqlite.connection import connect_reader, connect_writer
from kotaemon_grpc.stores.sqlite.conversations import SqliteConversations
from kotaemon_grpc.stores.sqlite.directory import DataDirectory, no_room
from kotaemon_grpc.stores.sqlite.documents import SqliteDocuments
from kotaemon_grpc.stores.sqlite.indexer import Indexer
from kotaemon_grpc.stores.sqlite.readers import Readers
from kotaemon_grpc.stores.sqlite.requests import SqliteRequests, limit_count
from kotaemon_grpc.stores.sqlite.retriever import SqliteRetriever
from kotaemon_grpc.stores.sqlite.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kotaemon_grpc.core.ports import ConversationStore, DocumentStore, RequestStore, Retriever

DEFAULT_MAX_REQUESTS = 100_000
"""Of the requests that are remembered, about 160 MB of answers."""


def _now() -> datetime:
    return datetime.now(UTC)


class SqliteStore:
    """An open data directory. Made by `open`.

    Attributes:
        documents: keeps documents.
        retriever: finds passages.
        conversations: keeps conversations.
        requests: remembers what came of requests that have a name.
        page_token_key: 32 random bytes, made once with the database.
        spool_dir: for files of running imports; emptied on each start.
        rebuilt_indexes: how many indexes had to be made anew since the start.
    """

    documents: DocumentStore
    retriever: Retriever
    conversations: ConversationStore
    requests: RequestStore

    def __init__(
        self,
        directory: DataDirectory,
        connection: sqlite3.Connection,
        clock: Callable[[], datetime],
        max_requests: int,
    ) -> None:
        """Put the parts together; the directory is locked, and the database migrated."""
        self._closed = False
        self._directory = directory
        self.spool_dir = directory.spool_dir
        key = connection.execute("SELECT value FROM meta WHERE key = 'page_token_key'").fetchone()
        self.page_token_key: bytes = key[0]
        sequence = connection.execute("SELECT ifnull(max(last_seq), 0) FROM scopes").fetchone()
        limit_count(connection, max_requests)
        self._indexer = Indexer(directory.index_dir, connect_reader(directory.database_file))
        self._writer = Writer(connection, sequence[0], self._indexer.note)
        self._readers = Readers(directory.database_file)
        self._conversations = SqliteConversations(self._writer, self._readers, clock)
        self._requests = SqliteRequests(self._writer, self._readers, self._indexer, clock)
        self.documents = SqliteDocuments(self._writer, self._readers, self._indexer, clock)
        self.retriever = SqliteRetriever(self._readers, self._indexer)
        self.conversations = self._conversations
        self.requests = self._requests

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        clock: Callable[[], datetime] = _now,
        max_requests: int = DEFAULT_MAX_REQUESTS,
    ) -> SqliteStore:
        """Open a data directory, or create it. Blocks, for long if an index is made anew.

        Args:
            data_dir: of the database, its index and its spool.
            clock: tells the time, with its zone.
            max_requests: of how many requests it is remembered what came of them, above 0;
                the oldest beyond them are forgotten.

        Raises:
            OperatorError: it cannot be used; the message says what to do.
        """
        with contextlib.ExitStack() as opened:
            directory = DataDirectory.open(data_dir)
            opened.callback(directory.close)
            connection = connect_writer(directory.database_file)
            opened.callback(connection.close)
            try:
                store = cls(directory, connection, clock, max_requests)
            except (sqlite3.Error, OSError) as error:
                raise _unusable(directory, error) from error
            # From here on the store closes what was opened.
            opened.pop_all()
        try:
            store._catch_up()
        except AgentError as error:
            store.close()
            if isinstance(error, StorageFull):
                raise no_room(directory.path) from error
            raise _unusable(directory, error.__cause__ or error) from error
        return store

    def _catch_up(self) -> None:
        """Bring all indexes up; one that is damaged is made anew at the second attempt."""
        for reached in self._indexer.caught_up():
            with contextlib.suppress(StorageUnavailable):
                reached.result()
        for reached in self._indexer.caught_up():
            reached.result()

    @property
    def sequence(self) -> int:
        """The number of the latest change of a document."""
        return self._writer.sequence

    @property
    def rebuilt_indexes(self) -> int:
        """How many indexes had to be made anew since the start."""
        return self._indexer.rebuilt

    def index_lag(self) -> int:
        """Return how many collections have changes that retrieval does not see yet."""
        return self._indexer.lag()

    def index_size_bytes(self) -> int:
        """Return the size of all indexes on disk. Blocks."""
        sizes = (_size_bytes(path) for path in self._directory.index_dir.rglob("*"))
        return sum(sizes)

    def is_there(self) -> bool:
        """Tell whether the database still stands where it was opened."""
        return self._directory.database_file.is_file()

    def document_count(self) -> int:
        """Return how many documents all tenants have. Blocks.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        return self._figure("SELECT count(*) FROM documents")

    def passage_count(self) -> int:
        """Return how many passages they have. Blocks.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        return self._figure("SELECT ifnull(sum(passage_count), 0) FROM documents")

    def request_count(self) -> int:
        """Return of how many requests it is remembered what came of them. Blocks.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        return self._figure("SELECT count(*) FROM requests")

    def _figure(self, query: str) -> int:
        figure: int = self._readers.run_blocking(lambda reader: reader.execute(query).fetchone()[0])
        return figure

    async def purge_conversations(self, older_than: datetime) -> int:
        """Delete the conversations of all tenants whose last turn is older.

        Returns:
            How many were deleted.

        Raises:
            StorageUnavailable: the database cannot be written.
        """
        return await self._conversations.purge(older_than)

    async def purge_requests(self, older_than: datetime) -> int:
        """Forget what came of the requests of all tenants that were done before.

        Returns:
            How many were forgotten.

        Raises:
            StorageUnavailable: the database cannot be written.
        """
        return await self._requests.purge(older_than)

    def close(self) -> None:
        """Write what is queued, then let go of the directory. Blocks; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._indexer.close()
        self._readers.close()
        self._directory.close()


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # merged away while we looked
        return 0


def _unusable(directory: DataDirectory, error: BaseException) -> OperatorError:
    return OperatorError(
        f'the data in "{directory.path}" cannot be used ({error}); '
        "restore it from a backup or choose another --data-dir"
    )
