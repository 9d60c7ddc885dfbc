"""Take in, read and delete documents."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from kotaemon_grpc.core.errors import (
    ContentTooLarge,
    FieldViolation,
    InvalidArgument,
    NotFound,
    ResourceType,
)
from kotaemon_grpc.core.limits import MAX_TITLE_CHARS
from kotaemon_grpc.core.media_types import PLAIN_TEXT, media_type_of
from kotaemon_grpc.core.model import DocumentDraft, ImportOutcome, ParsedDocument, Scope
from kotaemon_grpc.core.names import document_name
from kotaemon_grpc.core.once import Deleted, Stored
from kotaemon_grpc.core.paging import Page
from kotaemon_grpc.core.required import require_collection
from kotaemon_grpc.core.titles import title_from

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.core.model import Document
    from kotaemon_grpc.core.once import Claim, Once
    from kotaemon_grpc.core.paging import PageTokens
    from kotaemon_grpc.core.ports import DocumentParser, DocumentStore, Spool, SpoolFile

_DERIVED_ID_DIGITS = 32  # 128 bits of a SHA-256: no two URIs meet by chance
_LARGE_CHUNK_BYTES = 64 * 1024  # to hash more takes longer than to hand it to a thread


@dataclass(frozen=True, slots=True)
class DocumentHeader:
    """What is known of a document before its content; all but the scope may be empty.

    Args:
        sha256: what the content's hash is going to be, 64 lower-case digits.
    """

    scope: Scope
    id: str = ""
    title: str = ""
    uri: str = ""
    mime_type: str = ""
    sha256: str = ""

    def completed(self) -> DocumentHeader:
        """Fill in the id, the URI and the media type, each by the contract's rule."""
        document_id = self.id or _id_of(self.uri)
        uri = self.uri or f"kotaemon:{document_name(self.scope.collection, document_id)}"
        mime_type = self.mime_type or media_type_of(urlsplit(self.uri).path) or PLAIN_TEXT
        return replace(self, id=document_id, uri=uri, mime_type=mime_type)


class Documents:
    """The use case.

    Args:
        store: keeps the documents.
        parser: turns content into passages.
        spool: holds content while it arrives.
        once: takes in or deletes a document once for a request that has a name.
        tokens: makes page tokens.
        max_document_bytes: the largest content that is taken, above 0.
    """

    def __init__(
        self,
        *,
        store: DocumentStore,
        parser: DocumentParser,
        spool: Spool,
        once: Once,
        tokens: PageTokens,
        max_document_bytes: int,
    ) -> None:
        """Take the parts."""
        self._store = store
        self._parser = parser
        self._spool = spool
        self._once = once
        self._tokens = tokens
        self._max_document_bytes = max_document_bytes

    async def ingest(
        self,
        header: DocumentHeader,
        chunks: AsyncIterator[bytes],
        *,
        replace: bool,
        claim: Claim | None = None,
    ) -> Stored:
        """Store a document, whole or not at all, and wait until questions find it.

        Content is not read if the header's hash tells that it is stored already, or that
        this is a request which has been done.

        Args:
            header: what is known of it.
            chunks: its content in order.
            replace: whether a document of the same id gives way.
            claim: of all but the content.

        Raises:
            AlreadyExists: the id is taken, and `replace` is false.
            ContentTooLarge: there is more content than the limit allows.
            InvalidArgument: the content is not text, empty, or not what the hash says.
            RequestIdReused: the claim's id was used for another request.
        """
        header = header.completed()
        if header.sha256:
            described = claim and claim.with_content(header.sha256)
            known = await self._known(header, described, replace=replace)
            if known is not None:
                return known
        async with self._spool.open() as file:
            size_bytes, sha256 = await self._collect(chunks, file)
            if header.sha256 not in ("", sha256):
                raise InvalidArgument(
                    FieldViolation("expected_sha256", "is not the hash of the content that came")
                )
            claim = claim and claim.with_content(sha256)

            async def work() -> Stored:
                parsed = await self._parser.parse(await file.finish(), header.mime_type)
                draft = _draft(header, parsed, size_bytes, sha256)
                put = self._store.put(header.scope, draft, replace=replace, claim=claim)
                return Stored(*await put)

            return await self._once.run(claim, Stored, work)

    async def _known(
        self, header: DocumentHeader, claim: Claim | None, *, replace: bool
    ) -> Stored | None:
        """Return what can be told of a document without its content."""
        if claim is not None:
            first = await self._once.outcome(claim, Stored)
            if first is not None:
                return first
        there = await self._store.get(header.scope, header.id) if replace else None
        if there is None or not _describes(header, there):
            return None
        unchanged = Stored(there, ImportOutcome.UNCHANGED)

        async def work() -> Stored:
            await self._once.remember(claim, unchanged)
            return unchanged

        return await self._once.run(claim, Stored, work)

    async def _collect(self, chunks: AsyncIterator[bytes], file: SpoolFile) -> tuple[int, str]:
        """Write content to a file; return its size and its SHA-256."""
        size_bytes = 0
        digest = hashlib.sha256()
        async for chunk in chunks:
            size_bytes += len(chunk)
            if size_bytes > self._max_document_bytes:
                raise ContentTooLarge(self._max_document_bytes)
            if len(chunk) > _LARGE_CHUNK_BYTES:
                await asyncio.to_thread(digest.update, chunk)
            else:
                digest.update(chunk)
            await file.write(chunk)
            del chunk  # the next one may be long in coming
        return size_bytes, digest.hexdigest()

    async def get(self, scope: Scope, document_id: str) -> Document:
        """Get a document with its present indexing state.

        Raises:
            NotFound: there is none.
        """
        found = await self._store.get(scope, document_id)
        if found is None:
            raise NotFound(ResourceType.DOCUMENT, document_name(scope.collection, document_id))
        return found

    async def list(self, scope: Scope, *, token: str, limit: int) -> Page[Document]:
        """List documents by id. Keys of the pages are page tokens.

        Raises:
            NotFound: there is no such collection.
        """
        bound_to = (scope.tenant, "documents", scope.collection)
        after = self._tokens.decode(token, *bound_to)
        await require_collection(self._store, scope)
        page = await self._store.list(scope, after=after, limit=limit)
        return Page(page.items, self._tokens.encode(page.next_key, *bound_to))

    async def delete(self, scope: Scope, document_id: str, claim: Claim | None = None) -> None:
        """Delete a document.

        Raises:
            NotFound: there is none.
            RequestIdReused: the claim's id was used for another request.
        """

        async def work() -> Deleted:
            if not await self._store.delete(scope, document_id, claim=claim):
                raise NotFound(ResourceType.DOCUMENT, document_name(scope.collection, document_id))
            return Deleted()

        await self._once.run(claim, Deleted, work)


def _id_of(uri: str) -> str:
    if not uri:
        return uuid.uuid4().hex
    return hashlib.sha256(uri.encode()).hexdigest()[:_DERIVED_ID_DIGITS]


def _describes(header: DocumentHeader, stored: Document) -> bool:
    """Tell whether storing under this header would change nothing."""
    return (header.sha256, header.uri, header.mime_type) == (
        stored.sha256,
        stored.uri,
        stored.mime_type,
    ) and header.title in ("", stored.title)


def _draft(
    header: DocumentHeader, parsed: ParsedDocument, size_bytes: int, sha256: str
) -> DocumentDraft:
    return DocumentDraft(
        id=header.id,
        title=header.title or _title_of(parsed, header.uri),
        uri=header.uri,
        mime_type=header.mime_type,
        size_bytes=size_bytes,
        sha256=sha256,
        passages=parsed.passages,
    )


def _title_of(parsed: ParsedDocument, uri: str) -> str:
    last_part = unquote(uri.rstrip("/").replace(":", "/").rpartition("/")[2])
    return title_from(parsed.title, MAX_TITLE_CHARS) or title_from(last_part, MAX_TITLE_CHARS)
