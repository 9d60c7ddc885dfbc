"""The documents that the server holds."""

from __future__ import annotations

from contextlib import aclosing
from typing import IO, TYPE_CHECKING

from kotaemon_grpc.client import values
from kotaemon_grpc.client.attempts import Method
from kotaemon_grpc.client.calls import new_request_id
from kotaemon_grpc.client.content import Content
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from kotaemon_grpc.client.calls import Calls

DEFAULT_COLLECTION = "collections/default"

_BYTES_A_SECOND = 1024 * 1024  # the slowest that an import may be on top of `timeout_s`

_CREATE = Method("DocumentService/CreateDocument", pb.CreateDocumentResponse)
_IMPORT = Method("DocumentService/ImportDocument", pb.ImportDocumentResponse)
_GET = Method("DocumentService/GetDocument", pb.GetDocumentResponse)
_LIST = Method("DocumentService/ListDocuments", pb.ListDocumentsResponse)
_DELETE = Method("DocumentService/DeleteDocument", pb.DeleteDocumentResponse)


class Documents:
    """The methods of a client that look after documents.

    `request_id` and `timeout_s` are those of `ask`; each page of a list has a deadline
    of its own.
    """

    _calls: Calls

    async def create_document(
        self,
        content: bytes,
        *,
        collection: str = DEFAULT_COLLECTION,
        document_id: str = "",
        uri: str = "",
        title: str = "",
        mime_type: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> values.Document:
        """Create a document that is small enough for one message: below 4 MiB by default.

        Args:
            content: text in UTF-8, or in UTF-16 with a byte order mark.
            collection: the resource name of where it goes.
            document_id: its id; empty to derive it from the URI, or else for one that
                the server chooses.
            uri: where it comes from; empty for one that the server makes of its name.
            title: empty for its first heading.
            mime_type: empty to tell by the ending of the URI.
            request_id: as of `ask`.
            timeout_s: as of `ask`.

        Raises:
            AlreadyExistsError: the id is taken.
            CallError: it failed otherwise.
        """
        request = pb.CreateDocumentRequest(
            parent=collection,
            document_id=document_id,
            document=pb.Document(title=title, uri=uri, mime_type=mime_type),
            content=content,
            request_id=request_id,
        )
        response = await self._calls.unary(_CREATE, request, timeout_s)
        return values.document_from_pb(response.document)

    async def import_document(
        self,
        content: IO[bytes],
        *,
        uri: str,
        collection: str = DEFAULT_COLLECTION,
        document_id: str = "",
        title: str = "",
        mime_type: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> values.Imported:
        """Create or replace a document; content that the server has is not sent.

        The deadline is `timeout_s` and one second more for each MiB of the content.

        Args:
            content: a seekable file; it is read twice or more, in pieces.
            uri: where it comes from; the id is derived from it if there is none.
            collection: the resource name of where it goes.
            document_id: its id; empty to derive it.
            title: empty for its first heading.
            mime_type: empty to tell by the ending of the URI.
            request_id: as of `ask`.
            timeout_s: as of `ask`.

        Raises:
            CallError: it failed.
            OSError: the content could not be read.
        """
        timeout_s = self._calls.timeout_s(timeout_s)
        pieces = Content(content)
        measured = await pieces.measured()
        header = pb.ImportDocumentHeader(
            parent=collection,
            document_id=document_id,
            document=pb.Document(title=title, uri=uri, mime_type=mime_type),
            expected_sha256=measured.sha256,
            request_id=request_id or new_request_id(),
        )

        async def requests() -> AsyncIterator[pb.ImportDocumentRequest]:
            yield pb.ImportDocumentRequest(header=header)
            async for chunk in pieces.chunks():
                yield pb.ImportDocumentRequest(chunk=chunk)

        response = await self._calls.client_stream(
            _IMPORT,
            requests,
            request_id=header.request_id,
            timeout_s=timeout_s + measured.size_bytes / _BYTES_A_SECOND,
        )
        return values.imported_from_pb(response)

    async def get_document(self, name: str, *, timeout_s: float | None = None) -> values.Document:
        """Get a document by its resource name.

        Raises:
            CallError: it failed.
        """
        request = pb.GetDocumentRequest(name=name)
        response = await self._calls.unary(_GET, request, timeout_s)
        return values.document_from_pb(response.document)

    async def list_documents(
        self, collection: str = DEFAULT_COLLECTION, *, timeout_s: float | None = None
    ) -> AsyncGenerator[values.Document, None]:
        """List the documents of a collection by id, page after page.

        Raises:
            CallError: it failed.
        """
        request = pb.ListDocumentsRequest(parent=collection)
        async with aclosing(self._calls.pages(_LIST, request, timeout_s)) as pages:
            async for page in pages:
                for document in page.documents:
                    yield values.document_from_pb(document)

    async def delete_document(
        self, name: str, *, request_id: str = "", timeout_s: float | None = None
    ) -> None:
        """Delete a document by its resource name, for good.

        Raises:
            CallError: it failed.
        """
        request = pb.DeleteDocumentRequest(name=name, request_id=request_id)
        await self._calls.unary(_DELETE, request, timeout_s)
