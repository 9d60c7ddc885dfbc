"""The thread that brings the indexes up to the database.

Whatever happened before (a change, a crash, a full disk, an index that was
deleted), the work is the same: read what has changed since the index's sequence
number, and apply it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import AgentError, StorageFull, StorageUnavailable
from kotaemon_grpc.stores.sqlite.changes import changed_passages, outdated_documents
from kotaemon_grpc.stores.sqlite.connection import storage_error
from kotaemon_grpc.stores.sqlite.index import IndexFault, PassageIndex
from kotaemon_grpc.stores.sqlite.progress import ScopeProgress, survey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kotaemon_grpc.core.model import Scope

_RETRY_S = 1.0  # after a failure, unless somebody waits; a full disk is not emptied sooner
_GATHER_S = 0.01  # at most: about what a commit takes, and it serves as many as are there
_OPEN_INDEXES = 64  # each holds files, and a thread of tantivy's
_OPEN_WRITERS = 4  # each holds 15 MB and two threads


class Indexer:
    """All indexes, each made anew or caught up on a thread of its own.

    Args:
        directory: of the indexes.
        connection: that reads; the indexer closes it.

    Attributes:
        rebuilt: how many indexes had to be made anew because they were missing,
            damaged, of another format, or not of this database.
    """

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        """See how far the indexes have come, and start the thread."""
        self._directory = directory
        self._connection = connection
        self._wake = threading.Condition()
        self._open = True
        self._writers: list[PassageIndex] = []
        self._opened: deque[ScopeProgress] = deque()
        self._states, self.rebuilt = survey(directory, connection)
        self._due = {s for s, state in self._states.items() if state.applied_seq < state.last_seq}
        self._failed: set[Scope] = set()
        self._retry_at_s = 0.0
        self._ended = False
        self._answered = 0
        self._gather_until_s = 0.0
        self._thread = threading.Thread(target=self._run, name="store-indexer", daemon=True)
        self._thread.start()

    def note(self, touched: Mapping[Scope, tuple[int, int]]) -> None:
        """Learn of committed changes: the ids of scopes and their latest changes."""
        with self._wake:
            for scope, (scope_id, seq) in touched.items():
                state = self._states.get(scope)
                if state is None:
                    state = self._states[scope] = ScopeProgress(scope_id, 0, 0)
                state.last_seq = seq
            self._due.update(touched)
            self._wake.notify()

    def reached(self, scope: Scope, seq: int) -> Future[None]:
        """Return what is done when the index has the change, or fails when it cannot be had now.

        A change that failed is tried again until it succeeds, with or without
        somebody waiting.
        """
        future: Future[None] = Future()
        with self._wake:
            state = self._states[scope]
            if state.applied_seq >= seq:
                future.set_result(None)
            elif self._ended:
                future.set_exception(StorageUnavailable())
            else:
                state.waiting.append((seq, future))
                self._due.add(scope)
                self._wake.notify()
        return future

    def caught_up(self) -> list[Future[None]]:
        """Return, for each scope that lags, what `reached` does for its latest change."""
        lagging = [s for s, state in self._states.items() if state.applied_seq < state.last_seq]
        return [self.reached(scope, self._states[scope].last_seq) for scope in lagging]

    def applied(self, scope: Scope) -> int:
        """Return the number of the last change that retrieval sees."""
        state = self._states.get(scope)
        return 0 if state is None else state.applied_seq

    def lag(self) -> int:
        """Return how many scopes have changes that retrieval does not see yet."""
        with self._wake:
            return sum(state.applied_seq < state.last_seq for state in self._states.values())

    def index(self, scope: Scope) -> PassageIndex | None:
        """Return the index of a scope; None if it holds nothing and never did.

        Raises:
            IndexFault: it cannot be opened, or is being made anew: see `healed`.
        """
        state = self._states.get(scope)
        if state is None:
            return None
        # Read once: another thread may let it go meanwhile.
        index = state.index
        if index is not None:
            return index
        with self._wake:
            index = state.index
            if index is None:
                if not state.applied_seq:
                    raise IndexFault("the index is being made", full=False)
                index = state.index = PassageIndex.open(self._path(state))
                self._keep_open(state)
            return index

    def healed(self, scope: Scope, broken: PassageIndex | None) -> Future[None]:
        """Make an index anew that was found damaged.

        Args:
            scope: whose index it is.
            broken: what `index` returned, None if it raised. Another call may
                have had it made anew by now; then there is nothing to do.
        """
        with self._wake:
            state = self._states[scope]
            if state.index is broken and state.applied_seq:
                state.index = None
                state.applied_seq = 0
                self.rebuilt += 1
            last_seq = state.last_seq
        return self.reached(scope, last_seq)

    def close(self) -> None:
        """Apply what is due, then end."""
        with self._wake:
            self._open = False
            self._wake.notify()
        self._thread.join()
        for state in self._states.values():
            state.index = None
        self._writers.clear()
        self._connection.close()

    def _path(self, state: ScopeProgress) -> Path:
        return self._directory / str(state.id)

    def _run(self) -> None:
        while due := self._next_due():
            self._answered = sum(self._bring_up(scope) for scope in due)
            self._gather_until_s = time.monotonic() + _GATHER_S

    def _next_due(self) -> set[Scope]:
        """Wait for work. Empty at the end."""
        with self._wake:
            while True:
                if self._failed and self._open and time.monotonic() >= self._retry_at_s:
                    self._due |= self._failed
                if self._due and self._others_may_join():
                    self._wake.wait(self._gather_until_s - time.monotonic())
                elif self._due or not self._open:
                    due, self._due = self._due, set()
                    self._ended = not due
                    return due
                else:
                    pause_s = self._retry_at_s - time.monotonic() if self._failed else None
                    self._wake.wait(pause_s)

    def _others_may_join(self) -> bool:
        """Tell whether callers that were just answered may be about to write again."""
        if not self._open or time.monotonic() >= self._gather_until_s:
            return False
        return sum(len(self._states[scope].waiting) for scope in self._due) < self._answered

    def _bring_up(self, scope: Scope) -> int:
        """Apply what is new, and answer those who wait for it; return how many."""
        state = self._states[scope]
        # Whoever comes from here on is served by the next round, at the latest.
        with self._wake:
            waiting, state.waiting = state.waiting, []
        error: AgentError | None = None
        try:
            self._apply(scope, state)
        except IndexFault as fault:
            error = StorageFull() if fault.full else StorageUnavailable()
            error.__cause__ = fault
            self._failed_once_more(state, full=fault.full)
        except Exception as fault:  # noqa: BLE001 - the thread must outlive any fault
            known = storage_error(fault) if isinstance(fault, sqlite3.Error) else None
            error = known or StorageUnavailable()
            error.__cause__ = fault
        if error is None:
            self._failed.discard(scope)
        else:
            self._failed.add(scope)
            self._retry_at_s = time.monotonic() + _RETRY_S
        self._answer(scope, state, waiting, error)
        return len(waiting)

    def _answer(
        self,
        scope: Scope,
        state: ScopeProgress,
        waiting: list[tuple[int, Future[None]]],
        error: AgentError | None,
    ) -> None:
        for seq, future in waiting:
            if state.applied_seq < seq and error is None:
                with self._wake:
                    state.waiting.append((seq, future))
                    self._due.add(scope)
            elif not future.set_running_or_notify_cancel():
                continue  # its caller is gone
            elif state.applied_seq >= seq:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _failed_once_more(self, state: ScopeProgress, *, full: bool) -> None:
        """Give an index up that cannot be changed any more; for want of room, keep it."""
        with self._wake:
            # What was committed may not be seen by it: only one that is opened anew tells.
            state.index = None
            state.failures += not full
            if state.applied_seq and state.failures > 1:
                state.applied_seq = 0
                self.rebuilt += 1

    def _apply(self, scope: Scope, state: ScopeProgress) -> None:
        before = state.applied_seq
        known = state.index
        if known is None:
            self._release_writers(self._path(state))
        index = known or (self.index(scope) if before else PassageIndex.create(self._path(state)))
        assert index is not None  # noqa: S101 - the scope has a state
        connection = self._connection
        connection.execute("BEGIN")
        try:
            (last_seq,) = connection.execute(
                "SELECT last_seq FROM scopes WHERE id = ?", (state.id,)
            ).fetchone()
            if index.sequence < last_seq:
                since = index.sequence
                # One that was just opened may have more than it tells of, see `index`.
                outdated = outdated_documents(connection, scope, since, even_new=known is None)
                passages = changed_passages(connection, scope, since)
                # After a fault a traceback may keep them, and a query that is not at its end
                # would hold the connection to what it sees now.
                with contextlib.closing(outdated), contextlib.closing(passages):
                    index.apply(outdated if since else (), passages, last_seq)
        finally:
            connection.execute("ROLLBACK")
        with self._wake:
            if state.applied_seq != before:
                # It was found damaged meanwhile, and is to be made anew.
                self._due.add(scope)
                return
            state.index = index
            self._keep_open(state)
            state.applied_seq = last_seq
            state.failures = 0
        self._keep_writer(index)

    def _release_writers(self, path: Path) -> None:
        """End the writer of an index that was let go: it locks out the next one."""
        for index in [each for each in self._writers if each.path == path]:
            self._writers.remove(index)
            index.release()

    def _keep_open(self, state: ScopeProgress) -> None:
        """Make room for an index that is used: the one that was longest not is let go."""
        if state in self._opened:
            self._opened.remove(state)
        self._opened.append(state)
        if len(self._opened) > _OPEN_INDEXES:
            self._opened.popleft().index = None

    def _keep_writer(self, index: PassageIndex) -> None:
        if index in self._writers:
            self._writers.remove(index)
        self._writers.append(index)
        if len(self._writers) > _OPEN_WRITERS:
            self._writers.pop(0).release()
