"""How far the index of each scope has come."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import Scope
from kotaemon_grpc.stores.sqlite.index import PassageIndex, stored_sequence

if TYPE_CHECKING:
    import sqlite3
    from concurrent.futures import Future
    from pathlib import Path


@dataclass(slots=True, eq=False)
class ScopeProgress:
    """Of one scope.

    Args:
        id: names the directory of its index.
        last_seq: the latest change that is in the database.
        applied_seq: the latest that is in the index; 0 if that is to be made anew.
        index: if it has been opened.
        failures: how often in a row it could not be changed, but for want of room.
        waiting: for which changes somebody waits.
    """

    id: int
    last_seq: int
    applied_seq: int
    index: PassageIndex | None = None
    failures: int = 0
    waiting: list[tuple[int, Future[None]]] = field(default_factory=list)


def survey(
    directory: Path, connection: sqlite3.Connection
) -> tuple[dict[Scope, ScopeProgress], int]:
    """Compare the indexes with the database, without opening them.

    What belongs to no scope is deleted.

    Returns:
        The progress of every scope, and how many indexes are to be made anew.
    """
    states = {}
    known = set()
    unusable = 0
    for scope_id, tenant, collection, last_seq, forgotten_seq in connection.execute(
        "SELECT id, tenant, collection, last_seq, forgotten_seq FROM scopes"
    ):
        path = directory / str(scope_id)
        known.add(path)
        sequence = stored_sequence(path)
        # An index that is ahead belongs to a database that was put back since.
        usable = sequence is not None and forgotten_seq <= sequence <= last_seq
        unusable += not usable
        applied_seq = sequence if usable and sequence is not None else 0
        states[Scope(tenant, collection)] = ScopeProgress(scope_id, last_seq, applied_seq)
    for path in set(directory.iterdir()) - known:
        shutil.rmtree(path, ignore_errors=True)
    return states, unusable
