"""What a request that has a name does, it does once (AIP-155)."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from kotaemon_grpc.core.conversation import Conversation
from kotaemon_grpc.core.errors import (
    Overloaded,
    RequestIdReused,
    StorageFull,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from kotaemon_grpc.core.model import Answer, Document, ImportOutcome
    from kotaemon_grpc.core.ports import RequestStore

MAX_WAITING = 32
"""Who may wait for one claim. A client repeats a call a few times; more are a fault or an
attack, and those who wait hold no place that other limits would count."""

RETRY_AFTER_S = 1.0
"""After which one who was refused may come again: the first is likely to be done by then."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that says of itself: this is to be done once.

    Args:
        tenant: whose request it is.
        principal: likewise; callers do not share their ids.
        request_id: the caller's name for it.
        fingerprint: a hash of what it is and says, so that another under the same name
            is told from a repetition.
        field: what the client has to call the id.
    """

    tenant: str
    principal: str
    request_id: str
    fingerprint: bytes
    field: str = field(default="request_id", compare=False)

    @property
    def key(self) -> tuple[str, str, str]:
        """What no two requests share that are not the same."""
        return self.tenant, self.principal, self.request_id

    def with_content(self, sha256: str) -> Claim:
        """Add content that comes apart from the request.

        Args:
            sha256: of the content, in hexadecimal digits.
        """
        digest = hashlib.sha256(self.fingerprint + bytes.fromhex(sha256))
        return replace(self, fingerprint=digest.digest())


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a question; `conversation` is the id that keeps it, or empty."""

    answer: Answer
    conversation: str = ""


class Stored(NamedTuple):
    """What came of a document that was taken in."""

    document: Document
    outcome: ImportOutcome


@dataclass(frozen=True, slots=True)
class Deleted:
    """What came of a deletion."""


Outcome: TypeAlias = Answered | Conversation | Stored | Deleted
O = TypeVar("O", bound=Outcome)  # noqa: E741 - as long as that of any other type


class AlreadyDone(Exception):
    """A store has the outcome of a claim, and has done nothing. Never reaches a caller."""


class Once:
    """Does the work of each claim once, and gives its outcome to all who come with it.

    What failed, or was cancelled, has no outcome: who comes next does it anew.

    Args:
        requests: remembers outcomes.
    """

    def __init__(self, requests: RequestStore) -> None:
        """Start with nothing that runs."""
        self._requests = requests
        self._running: dict[tuple[str, str, str], _Run] = {}

    async def run(self, claim: Claim | None, kind: type[O], work: Callable[[], Awaitable[O]]) -> O:
        """Return what comes of work, or what came of it before.

        Args:
            claim: None for a request without a name, whose work is always done.
            kind: of the outcome.
            work: has to hand the claim to the store that it changes, or to `remember`.

        Raises:
            Overloaded: too many wait for the claim already.
            RequestIdReused: the claim's id was used for another request.
        """
        async with self.held(claim, kind) as first:
            if first is not None:
                return first
            try:
                return await work()
            except AlreadyDone:
                if claim is None:
                    raise
                return await self.first(claim, kind)

    def held(self, claim: Claim | None, kind: type[O]) -> AbstractAsyncContextManager[O | None]:
        """Be the only one here who works on a claim; wait while another does.

        Enters with the first outcome, or None if there is none: then the work is yours.

        Raises:
            Overloaded: too many wait for the claim already.
            RequestIdReused: the claim's id was used for another request.
        """
        return nullcontext() if claim is None else self._held(claim, kind)

    async def outcome(self, claim: Claim, kind: type[O]) -> O | None:
        """Return what came of a claim, or None.

        Raises:
            RequestIdReused: the claim's id was used for another request.
        """
        found = await self._requests.outcome(claim)
        if found is not None and not isinstance(found, kind):
            raise RequestIdReused(claim.field)
        return found

    async def first(self, claim: Claim, kind: type[O]) -> O:
        """Return what came of a claim of which a store said that it is done."""
        found = await self.outcome(claim, kind)
        if found is None:
            raise RuntimeError("the store has forgotten what it has just known")
        return found

    async def remember(self, claim: Claim | None, outcome: Outcome) -> None:
        """Remember what came of a request that has changed nothing in a store.

        A store that cannot be written fails nothing here: the outcome is there, and the
        most that can come of refusing it is that it is worked out again.

        Raises:
            AlreadyDone: another was faster.
        """
        if claim is not None:
            with suppress(StorageFull, StorageUnavailable):
                await self._requests.remember(claim, outcome)

    @asynccontextmanager
    async def _held(self, claim: Claim, kind: type[O]) -> AsyncIterator[O | None]:
        while (other := self._running.get(claim.key)) is not None:
            if other.fingerprint != claim.fingerprint:
                raise RequestIdReused(claim.field)
            await other.wait()
        run = self._running[claim.key] = _Run(claim.fingerprint)
        try:
            yield await self.outcome(claim, kind)
        finally:
            del self._running[claim.key]
            run.ended.set()


class _Run:
    """Work that is being done."""

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.ended = asyncio.Event()
        self._waiting = 0

    async def wait(self) -> None:
        """Wait for its end.

        Raises:
            Overloaded: too many do.
        """
        if self._waiting >= MAX_WAITING:
            raise Overloaded(RETRY_AFTER_S)
        self._waiting += 1
        try:
            await self.ended.wait()
        finally:
            self._waiting -= 1
