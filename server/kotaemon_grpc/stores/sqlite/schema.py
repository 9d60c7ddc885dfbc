"""The tables, and how a database of an older version gets them.

Times are microseconds since 1970 in UTC. `seq` numbers the changes of all
documents in the order they were made, without end; the index of a scope (one
collection of one tenant) says up to which one it has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_FIRST = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE scopes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- names the directory of its index
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    last_seq INTEGER NOT NULL,  -- of its latest change
    forgotten_seq INTEGER NOT NULL DEFAULT 0,  -- an index below it lacks forgotten deletions
    UNIQUE (tenant, collection)
);

CREATE TABLE documents (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    uri TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    passage_count INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,  -- of its creation: an index below it cannot hold it
    seq INTEGER NOT NULL,  -- of its latest change
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (tenant, collection, id)
);
CREATE UNIQUE INDEX documents_by_seq ON documents (tenant, collection, seq);

CREATE TABLE passages (
    pk INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: an index may lag behind
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    document INTEGER NOT NULL REFERENCES documents (pk),
    headings TEXT NOT NULL,  -- a JSON array
    start_offset INTEGER NOT NULL,
    end_offset INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX passages_by_document ON passages (document);

CREATE TABLE deletions (
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    seq INTEGER NOT NULL,
    document INTEGER NOT NULL,  -- the pk that is gone
    PRIMARY KEY (tenant, collection, seq)
) WITHOUT ROWID;

CREATE TABLE conversations (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    title TEXT NOT NULL,
    turn_count INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX conversations_by_creation ON conversations (tenant, created_at, id);
CREATE INDEX conversations_by_update ON conversations (updated_at);

CREATE TABLE turns (
    tenant TEXT NOT NULL,
    conversation TEXT NOT NULL,
    number INTEGER NOT NULL,
    collection TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,  -- JSON, see answers.py
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, conversation, number),
    FOREIGN KEY (tenant, conversation) REFERENCES conversations (tenant, id)
) WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES ('page_token_key', randomblob(32));
"""

_REQUESTS = """
CREATE TABLE requests (
    pk INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    principal TEXT NOT NULL,
    id TEXT NOT NULL,  -- the caller's
    fingerprint BLOB NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,  -- JSON by its kind, see outcomes.py
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, principal, id)
);
CREATE INDEX requests_by_creation ON requests (created_at);
"""

_REQUESTS_BY_CHANGE = """
-- The number of the latest change of a document by then: what is changed later makes an
-- answer outdated. Of an outcome of an older server it is not known.
ALTER TABLE requests ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _REQUESTS, _REQUESTS_BY_CHANGE)
"""Number n (from 0) turns version n into n + 1. Only ever append: databases have run the rest."""


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring a database to the latest version, each step whole or not at all.

    Args:
        connection: in autocommit mode.
        migrations: all of them, in order.

    Raises:
        OperatorError: the database is of a newer version.
        sqlite3.Error: a step failed; the steps before it stay.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise OperatorError(
            f"the data is of version {version}, and this server knows up to {len(migrations)}; "
            "install the newer server again or choose another --data-dir"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        try:
            connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
