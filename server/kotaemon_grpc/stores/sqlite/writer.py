"""The one thread that writes: what waits together is committed together.

A commit waits for the disk, so many small ones are slow. Operations that come
while one is on its way are queued and share the next.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.stores.sqlite.connection import storage_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kotaemon_grpc.core.model import Scope

R = TypeVar("R")

_MAX_BATCH = 256  # operations that share a commit; bounds what is done twice when it fails


class Transaction:
    """What an operation works on.

    Args:
        connection: in a transaction; the operation neither begins nor ends one.
        sequence: the number of the latest change of a document.
    """

    def __init__(self, connection: sqlite3.Connection, sequence: int) -> None:
        """Start without changes."""
        self.connection = connection
        self.sequence = sequence
        self.touched: dict[Scope, tuple[int, int]] = {}

    def next_seq(self, scope: Scope) -> int:
        """Number a change of a document, and note that the scope has changed."""
        self.sequence += 1
        (scope_id,) = self.connection.execute(
            "INSERT INTO scopes (tenant, collection, last_seq) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq RETURNING id",
            (scope.tenant, scope.collection, self.sequence),
        ).fetchone()
        self.touched[scope] = (scope_id, self.sequence)
        return self.sequence


class _Job(Generic[R]):
    def __init__(self, operation: Callable[[Transaction], R]) -> None:
        self.operation = operation
        self.future: Future[R] = Future()


class Writer:
    """Runs operations on a thread of its own, several to a transaction.

    Each operation takes effect whole or not at all, and its future is done when
    the effect is on disk. An operation may be run again after a batch failed:
    it must have no effect but through its transaction.

    Args:
        connection: that writes; the writer closes it.
        sequence: the number of the latest change of a document.
        committed: told, on the writer's thread, which scopes have changed, with
            their ids and the numbers of their latest changes.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        sequence: int,
        committed: Callable[[Mapping[Scope, tuple[int, int]]], None],
    ) -> None:
        """Start the thread."""
        self._connection = connection
        self._committed = committed
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._open = True
        self._gate = threading.Lock()
        self.sequence = sequence
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Callable[[Transaction], R]) -> Future[R]:
        """Queue an operation, from any thread.

        Returns:
            What the operation returns or raises, or `StorageFull` or
            `StorageUnavailable`; cancelled in time, it is not run.
        """
        job = _Job(operation)
        with self._gate:
            if not self._open:
                raise StorageUnavailable
            self._jobs.put(job)
        return job.future

    async def run(self, operation: Callable[[Transaction], R]) -> R:
        """Do as `submit` does, and wait for it.

        Whoever is cancelled meanwhile leaves once it is settled whether the operation took
        effect: the next attempt at the same must find what came of it.
        """
        job = self.submit(operation)
        done = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not job.cancel():
                await asyncio.wait((done,))
            raise

    def close(self) -> None:
        """Do what is queued, then end."""
        with self._gate:
            self._open = False
            self._jobs.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        ended = False
        while not ended:
            queued = [self._jobs.get()]
            while len(queued) < _MAX_BATCH and not self._jobs.empty():
                queued.append(self._jobs.get())
            ended = None in queued
            # A caller that is gone by now need not be served.
            jobs = [job for job in queued if job and job.future.set_running_or_notify_cancel()]
            if jobs:
                self._write(jobs)

    def _write(self, jobs: list[_Job[Any]]) -> None:
        try:
            results = self._write_together(jobs)
        except Exception as error:  # noqa: BLE001 - each caller must hear of it
            if len(jobs) == 1:
                translation = storage_error(error) if isinstance(error, sqlite3.Error) else None
                jobs[0].future.set_exception(translation or error)
                return
            # Which of them it was cannot be told: each gets a transaction of its own.
            for job in jobs:
                self._write([job])
            return
        for job, (result, refusal) in zip(jobs, results, strict=True):
            if refusal is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(refusal)

    def _write_together(self, jobs: list[_Job[Any]]) -> list[tuple[Any, Exception | None]]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection, self.sequence)
            results = [_attempt(job, transaction) for job in jobs]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.sequence = transaction.sequence
        if transaction.touched:
            self._committed(transaction.touched)
        return results


def _attempt(job: _Job[R], transaction: Transaction) -> tuple[R | None, Exception | None]:
    connection = transaction.connection
    touched = transaction.touched.copy()
    connection.execute("SAVEPOINT operation")
    try:
        result = job.operation(transaction)
    except Exception as error:
        if not connection.in_transaction:
            # SQLite gave up the whole transaction (https://www.sqlite.org/lang_transaction.html).
            raise
        connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")
        transaction.touched = touched
        translation = storage_error(error) if isinstance(error, sqlite3.Error) else None
        return None, translation or error
    connection.execute("RELEASE operation")
    return result, None
