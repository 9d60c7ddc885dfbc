"""`AgentClient`: kotaemon.v2 as plain Python."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Self

import grpc
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from kotaemon_grpc.client import values
from kotaemon_grpc.client.errors import CallError, ConfigurationError, error_from_rpc
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator

    from kotaemon_grpc.client.tls import TlsFiles

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_COLLECTION = "collections/default"
NEW_CONVERSATION = "conversations/-"
_CHUNK_BYTES = 256 * 1024  # few messages a file, and each far below the limit of 4 MiB
_BYTES_A_SECOND = 1024 * 1024  # the slowest that an import may be on top of `timeout_s`
_IMPORT_ATTEMPTS = 4  # an import can be repeated: it stores a document whole or not at all
_MAX_RECEIVED_BYTES = 64 * 1024 * 1024  # what the server sends is bounded by the server


class AgentClient:
    """Asks one server. Use it as an asynchronous context manager; safe for concurrent use.

    Args:
        target: `host:port`, or any gRPC target.
        tls: the files of mutual TLS; None speaks plaintext.
        timeout_s: the deadline of each call that is not a dialogue, above 0;
            `import_document` has more.

    Raises:
        ConfigurationError: a file cannot be read, or a value cannot work.
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, *, tls: TlsFiles | None, timeout_s: float = 60.0
    ) -> None:
        """Open the channel; it connects with the first call."""
        if not target:
            raise ConfigurationError("the target must not be empty")
        if timeout_s <= 0:
            raise ConfigurationError(f"timeout_s must be above 0, not {timeout_s}")
        self._timeout_s = timeout_s
        options = [("grpc.max_receive_message_length", _MAX_RECEIVED_BYTES)]
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options)
        else:
            self._channel = grpc.aio.secure_channel(target, tls.credentials(), options)
        self._agent = stubs.AgentServiceStub(self._channel)
        self._retrieval = stubs.RetrievalServiceStub(self._channel)
        self._documents = stubs.DocumentServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def ask(
        self, question: str, *, collection: str = "", conversation: str = "", language: str = ""
    ) -> values.Answer:
        """Ask a question and wait for the whole answer.

        Args:
            question: 1 to 8,192 characters.
            collection: the resource name of what is asked; empty for the default.
            conversation: the resource name of what is continued; `NEW_CONVERSATION` to
                start one; empty for a question that stands alone.
            language: a BCP 47 tag; empty for the language of the question.

        Raises:
            CallError: it failed.
        """
        request = pb.AskQuestionRequest(
            question=question,
            collection=collection,
            conversation=conversation,
            language_code=language,
        )
        with _translated_errors():
            response = await self._agent.AskQuestion(request, timeout=self._timeout_s)
        return values.answer_from_pb(response.answer, response.conversation)

    async def stream(
        self, question: str, *, collection: str = "", conversation: str = "", language: str = ""
    ) -> AsyncGenerator[values.AnswerEvent, None]:
        """Ask a question and get the answer as it is written; the arguments are those of `ask`.

        Raises:
            CallError: it failed.
        """
        request = pb.StreamAnswerRequest(
            question=question,
            collection=collection,
            conversation=conversation,
            language_code=language,
        )
        with _translated_errors():
            async for response in self._agent.StreamAnswer(request, timeout=self._timeout_s):
                if event := values.event_from_pb(response):
                    yield event

    async def chat(
        self,
        questions: AsyncIterable[str],
        *,
        collection: str = "",
        conversation: str = "",
        language: str = "",
    ) -> AsyncGenerator[values.AnswerEvent, None]:
        """Hold a dialogue: each question is answered with the earlier ones as its history.

        Each turn's events end in its whole `Answer`. The arguments are those of `ask`.

        Raises:
            CallError: it failed.
        """

        async def requests() -> AsyncIterator[pb.ChatStreamRequest]:
            yield pb.ChatStreamRequest(
                start=pb.ChatStart(
                    collection=collection, conversation=conversation, language_code=language
                )
            )
            async for question in questions:
                yield pb.ChatStreamRequest(message=pb.ChatMessage(question=question))

        with _translated_errors():
            async for response in self._agent.ChatStream(requests()):
                if event := values.event_from_pb(response):
                    yield event

    async def search(
        self, query: str, *, collection: str = "", page_size: int = 0
    ) -> tuple[values.SearchResult, ...]:
        """Find passages, best first: the first page, of at most `page_size`.

        Args:
            query: 1 to 8,192 characters.
            collection: the resource name of what is searched; empty for the default.
            page_size: 1 to 100; more means 100, and 0 means 10.

        Raises:
            CallError: it failed.
        """
        request = pb.SearchRequest(query=query, collection=collection, page_size=page_size)
        with _translated_errors():
            response = await self._retrieval.Search(request, timeout=self._timeout_s)
        return tuple(values.result_from_pb(result) for result in response.results)

    async def import_document(
        self,
        content: IO[bytes],
        *,
        uri: str,
        collection: str = DEFAULT_COLLECTION,
        document_id: str = "",
        title: str = "",
        mime_type: str = "",
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

        Raises:
            CallError: it failed.
            OSError: the content could not be read.
        """
        sha256, size_bytes = await asyncio.to_thread(_measured, content)
        timeout_s = self._timeout_s + size_bytes / _BYTES_A_SECOND
        header = pb.ImportDocumentHeader(
            parent=collection,
            document_id=document_id,
            document=pb.Document(title=title, uri=uri, mime_type=mime_type),
            expected_sha256=sha256,
        )
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(_is_lost),
            stop=stop_after_attempt(_IMPORT_ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                return await self._import(header, content, timeout_s)
        raise AssertionError("the last attempt returns or raises")

    async def _import(
        self, header: pb.ImportDocumentHeader, content: IO[bytes], timeout_s: float
    ) -> values.Imported:
        unreadable: list[OSError] = []

        async def requests() -> AsyncIterator[pb.ImportDocumentRequest]:
            yield pb.ImportDocumentRequest(header=header)
            try:
                await asyncio.to_thread(content.seek, 0)
                while chunk := await asyncio.to_thread(content.read, _CHUNK_BYTES):
                    yield pb.ImportDocumentRequest(chunk=chunk)
            except OSError as error:
                unreadable.append(error)
                raise

        try:
            with _translated_errors():
                response = await self._documents.ImportDocument(requests(), timeout=timeout_s)
        except asyncio.CancelledError:
            # gRPC cancels a call whose requests fail, and says no more of it.
            if unreadable:
                raise unreadable[0] from None
            raise
        return values.imported_from_pb(response)

    async def get_document(self, name: str) -> values.Document:
        """Get a document by its resource name.

        Raises:
            CallError: it failed.
        """
        request = pb.GetDocumentRequest(name=name)
        with _translated_errors():
            response = await self._documents.GetDocument(request, timeout=self._timeout_s)
        return values.document_from_pb(response.document)

    async def list_documents(
        self, collection: str = DEFAULT_COLLECTION
    ) -> AsyncGenerator[values.Document, None]:
        """List the documents of a collection by id, page after page.

        Raises:
            CallError: it failed.
        """
        request = pb.ListDocumentsRequest(parent=collection)
        while True:
            with _translated_errors():
                page = await self._documents.ListDocuments(request, timeout=self._timeout_s)
            for document in page.documents:
                yield values.document_from_pb(document)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_document(self, name: str) -> None:
        """Delete a document by its resource name.

        Raises:
            CallError: it failed.
        """
        request = pb.DeleteDocumentRequest(name=name)
        with _translated_errors():
            await self._documents.DeleteDocument(request, timeout=self._timeout_s)


def _measured(content: IO[bytes]) -> tuple[str, int]:
    """Return the SHA-256 of a file, in hexadecimal digits, and its size in bytes."""
    content.seek(0)
    digest = hashlib.file_digest(content, "sha256")  # type: ignore[arg-type] # it wants a raw file
    return digest.hexdigest(), content.seek(0, os.SEEK_END)


def _is_lost(error: BaseException) -> bool:
    """Tell whether the server's status was lost, which always has a reason.

    grpc.aio puts an error of its own in the place of a status that comes while it
    sends a message.
    """
    return (
        isinstance(error, CallError) and error.code is grpc.StatusCode.INTERNAL and not error.reason
    )


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
