"""What the use cases need from the outside. Adapters implement these protocols.

Everything is asynchronous and must be safe to call concurrently on one event
loop; an adapter that blocks does so on threads of its own. Any method may raise
`StorageUnavailable`, and one that writes `StorageFull`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Conversation, Turn
    from kotaemon_grpc.core.model import (
        AnswerEvent,
        Document,
        DocumentDraft,
        ImportOutcome,
        ParsedDocument,
        Query,
        Question,
        Retrieval,
        Scope,
    )
    from kotaemon_grpc.core.once import Claim, Outcome
    from kotaemon_grpc.core.paging import Page


class DocumentStore(Protocol):
    """Keeps documents. What it returned from is on disk and survives a crash."""

    async def collection_exists(self, scope: Scope) -> bool:
        """Tell whether the scope holds a document; the default collection always exists."""
        ...

    async def put(
        self, scope: Scope, draft: DocumentDraft, *, replace: bool, claim: Claim | None = None
    ) -> tuple[Document, ImportOutcome]:
        """Store a document, whole or not at all, and wait until retrieval finds it.

        A stored document of the same id with the same hash, title, URI and type
        is left alone: the outcome is UNCHANGED.

        Raises:
            AlreadyExists: the id is taken, and `replace` is false.
            AlreadyDone, RequestIdReused: see `RequestStore`.
        """
        ...

    async def get(self, scope: Scope, document_id: str) -> Document | None:
        """Get a document with its present indexing state, or None."""
        ...

    async def list(self, scope: Scope, *, after: str, limit: int) -> Page[Document]:
        """List the documents with an id above `after`, by id. Keys of pages are ids."""
        ...

    async def delete(self, scope: Scope, document_id: str, *, claim: Claim | None = None) -> bool:
        """Delete a document; False if there is none.

        Raises:
            AlreadyDone, RequestIdReused: see `RequestStore`.
        """
        ...


class Retriever(Protocol):
    """Finds passages."""

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        """Find the passages of the scope that fit best. None fit, or no more: no hits.

        Raises:
            DeadlineExceeded: the caller's time was up before the work began.
        """
        ...


class ConversationStore(Protocol):
    """Keeps conversations. What it returned from is on disk and survives a crash."""

    async def create(
        self, tenant: str, conversation_id: str, title: str, *, claim: Claim | None = None
    ) -> Conversation:
        """Create an empty conversation.

        Raises:
            AlreadyExists: the id is taken.
            AlreadyDone, RequestIdReused: see `RequestStore`.
        """
        ...

    async def get(self, tenant: str, conversation_id: str) -> Conversation | None:
        """Get a conversation, or None."""
        ...

    async def list(self, tenant: str, *, after: str, limit: int) -> Page[Conversation]:
        """List conversations, newest creation first; `after` is a key of a page, or empty."""
        ...

    async def delete(
        self, tenant: str, conversation_id: str, *, claim: Claim | None = None
    ) -> bool:
        """Delete a conversation and its turns; False if there is none.

        Raises:
            AlreadyDone, RequestIdReused: see `RequestStore`.
        """
        ...

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

        The first turn gives a conversation without a title one. With `create`, the
        conversation comes into being with the turn: both are stored, or neither.

        Raises:
            NotFound: the conversation does not exist, and `create` is false.
            AlreadyExists: the conversation exists, and `create` is true.
            AlreadyDone, RequestIdReused: see `RequestStore`.
        """
        ...

    async def turns(
        self, tenant: str, conversation_id: str, *, after: int, limit: int
    ) -> Sequence[Turn]:
        """Return the turns with a number above `after`, oldest first."""
        ...

    async def latest_turns(self, tenant: str, conversation_id: str, limit: int) -> Sequence[Turn]:
        """Return the last turns, oldest of them first."""
        ...


class RequestStore(Protocol):
    """Remembers what came of requests that have a name, for as long as it is configured to.

    It is one with the other stores: their methods that write take a claim, and record its
    outcome in the transaction of the change, so that both are on disk or neither is. In the
    same transaction they look whether the claim has an outcome: then nothing is changed, and
    `AlreadyDone` is raised, or `RequestIdReused` if that was another request. Several servers
    may share a store whose database does this by a unique key over tenant, principal and
    request id: of two at once, the later finds the row of the earlier, or waits for it.
    What fails records nothing.
    """

    async def outcome(self, claim: Claim) -> Outcome | None:
        """Return what came of a claim, or None; of a document, once retrieval finds it.

        An answer that nothing else keeps is forgotten when a document that it cites has
        changed or is gone.

        Raises:
            NotFound: the conversation that keeps the answer was deleted since.
            RequestIdReused: the id was used for another request.
        """
        ...

    async def remember(self, claim: Claim, outcome: Outcome) -> None:
        """Record what came of a claim that has changed nothing in another store.

        Raises:
            AlreadyDone: it has an outcome.
            RequestIdReused: the id was used for another request.
        """
        ...


class AnswerEngine(Protocol):
    """Writes answers."""

    def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question; `history` has the earlier turns, oldest first.

        Yields text and citations as they come, then one `AnswerCompleted`, whose
        text is that of all `TextDelta` joined.

        Deadline and cancellation of the call reach the engine here: what it waits
        for ends with `context.remaining_s()`, and it stops when the generator is
        closed or the task that runs it is cancelled.
        """
        ...


class SpoolFile(Protocol):
    """Content that is being collected."""

    async def write(self, chunk: bytes) -> None:
        """Add to the end."""
        ...

    async def finish(self) -> bytes | Path:
        """Return all that was written: itself if it is small, else the path of a file."""
        ...


class Spool(Protocol):
    """Holds content while it arrives, so that memory stays flat."""

    def open(self) -> AbstractAsyncContextManager[SpoolFile]:
        """Open a new file, which is gone when the context is left."""
        ...


class DocumentParser(Protocol):
    """Turns a file format into text with locations."""

    async def parse(self, content: bytes | Path, mime_type: str) -> ParsedDocument:
        """Read a document, or the file that has it.

        Raises:
            InvalidArgument: it cannot be read as what it is said to be; the field
                of the violation is `content`.
        """
        ...
