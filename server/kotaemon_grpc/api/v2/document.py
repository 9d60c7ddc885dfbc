"""kotaemon.v2.DocumentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.claims import claim_of
from kotaemon_grpc.api.v2.to_pb import document_to_pb, outcome_to_pb
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.documents import DocumentHeader
from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument, RequestIdReused
from kotaemon_grpc.core.limits import MAX_TITLE_CHARS
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.documents import Documents
    from kotaemon_grpc.core.model import Scope
    from kotaemon_grpc.core.once import Claim

SERVICE = pb.DESCRIPTOR.services_by_name["DocumentService"]


class DocumentService:
    """Implements `kotaemon.v2.DocumentService`."""

    def __init__(self, documents: Documents) -> None:
        """Take the use case."""
        self._documents = documents

    async def create_document(
        self, request: pb.CreateDocumentRequest, context: Context
    ) -> pb.CreateDocumentResponse:
        """Create a document from a single message."""
        header = header_from_pb(request, context.caller)
        claim = claim_of(request, context.caller)
        document, _ = await self._documents.ingest(
            header, _single(request.content), replace=False, claim=claim
        )
        return pb.CreateDocumentResponse(document=document_to_pb(document))

    async def import_document(
        self, requests: AsyncIterator[pb.ImportDocumentRequest], context: Context
    ) -> pb.ImportDocumentResponse:
        """Create or replace a document that is sent in pieces."""
        header, claim = await _header_of(requests, context.caller)
        try:
            document, outcome = await self._documents.ingest(
                header, _chunks_of(requests), replace=True, claim=claim
            )
        except RequestIdReused:
            raise
        except InvalidArgument as error:
            raise InvalidArgument(*map(_as_imported, error.violations)) from error
        return pb.ImportDocumentResponse(
            document=document_to_pb(document), outcome=outcome_to_pb(outcome)
        )

    async def get_document(
        self, request: pb.GetDocumentRequest, context: Context
    ) -> pb.GetDocumentResponse:
        """Get a document and its indexing state."""
        scope, document_id = _scope_and_id(Checks(), request.name, context.caller)
        found = await self._documents.get(scope, document_id)
        return pb.GetDocumentResponse(document=document_to_pb(found))

    async def list_documents(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        """List the documents of a collection."""
        checks = Checks()
        (collection,) = checks.name("parent", request.parent, "collections")
        limit = checks.page_size("page_size", request.page_size)
        checks.done()
        page = await self._documents.list(
            context.caller.scope(collection), token=request.page_token, limit=limit
        )
        return pb.ListDocumentsResponse(
            documents=[document_to_pb(item) for item in page.items], next_page_token=page.next_key
        )

    async def delete_document(
        self, request: pb.DeleteDocumentRequest, context: Context
    ) -> pb.DeleteDocumentResponse:
        """Delete a document."""
        checks = Checks()
        checks.request_id("request_id", request.request_id)
        scope, document_id = _scope_and_id(checks, request.name, context.caller)
        await self._documents.delete(scope, document_id, claim_of(request, context.caller))
        return pb.DeleteDocumentResponse()


def header_from_pb(
    request: pb.CreateDocumentRequest | pb.ImportDocumentHeader, caller: Caller, prefix: str = ""
) -> DocumentHeader:
    """Return what is known of a document before its content.

    Args:
        request: says it.
        caller: whose tenant the document belongs to.
        prefix: what the client has to put before a field's name to name it.

    Raises:
        InvalidArgument: with every field that breaks a constraint.
        PermissionDenied: the caller may not see the collection.
    """
    checks = Checks()
    (collection,) = checks.name(f"{prefix}parent", request.parent, "collections")
    sha256 = request.expected_sha256 if isinstance(request, pb.ImportDocumentHeader) else ""
    document_id = checks.optional_id(f"{prefix}document_id", request.document_id)
    title = checks.text(f"{prefix}document.title", request.document.title, MAX_TITLE_CHARS)
    uri = checks.uri(f"{prefix}document.uri", request.document.uri)
    mime_type = checks.mime_type(f"{prefix}document.mime_type", request.document.mime_type)
    sha256 = checks.sha256(f"{prefix}expected_sha256", sha256)
    checks.request_id(f"{prefix}request_id", request.request_id)
    checks.done()
    return DocumentHeader(caller.scope(collection), document_id, title, uri, mime_type, sha256)


async def _header_of(
    requests: AsyncIterator[pb.ImportDocumentRequest], caller: Caller
) -> tuple[DocumentHeader, Claim | None]:
    first = await anext(requests, pb.ImportDocumentRequest())
    if first.WhichOneof("payload") != "header":
        checks = Checks()
        checks.violation("header", "must be the first message of the stream")
        checks.done()
    header = header_from_pb(first.header, caller, "header.")
    return header, claim_of(first.header, caller, field="header.request_id")


async def _chunks_of(requests: AsyncIterator[pb.ImportDocumentRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("payload") != "chunk":
            checks = Checks()
            checks.violation("chunk", "must be every message of the stream but the first")
            checks.done()
        chunk = request.chunk
        del request  # else a stream that waits keeps its last message twice
        yield chunk
        del chunk


def _as_imported(violation: FieldViolation) -> FieldViolation:
    """Name what the use case calls `expected_sha256` as the client has it."""
    if violation.field != "expected_sha256":
        return violation
    return FieldViolation("header.expected_sha256", violation.description)


async def _single(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _scope_and_id(checks: Checks, name: str, caller: Caller) -> tuple[Scope, str]:
    """Return where a document is; of all that is checked, this comes last."""
    collection, document_id = checks.name("name", name, "collections", "documents")
    checks.done()
    return caller.scope(collection), document_id
