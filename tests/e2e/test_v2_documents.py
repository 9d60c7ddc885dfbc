"""kotaemon.v2.DocumentService."""

from __future__ import annotations

import codecs
import hashlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

TEXT = "# Bell buoy\n\nThe bell buoy off Garrick Ledge is painted orange."
QUESTION = "Which colour is the bell buoy off Garrick Ledge painted?"


@pytest.fixture
def documents(channel: grpc.aio.Channel) -> stubs.DocumentServiceStub:
    return stubs.DocumentServiceStub(channel)


@pytest.fixture
def agent(channel: grpc.aio.Channel) -> stubs.AgentServiceStub:
    return stubs.AgentServiceStub(channel)


@pytest.fixture
def parent() -> str:
    """A collection of the test's own."""
    return f"collections/d{uuid.uuid4().hex}"


def inline(parent: str, content: bytes, document_id: str = "", **known: str) -> Any:
    return pb.CreateDocumentRequest(
        parent=parent,
        document_id=document_id,
        document=pb.Document(**known),
        content=content,
    )


def pieces(parent: str, *chunks: bytes, expected: str = "", **known: str) -> list[Any]:
    header = pb.ImportDocumentHeader(
        parent=parent,
        document_id=known.pop("document_id", ""),
        document=pb.Document(**known),
        expected_sha256=expected,
    )
    return [
        pb.ImportDocumentRequest(header=header),
        *(pb.ImportDocumentRequest(chunk=chunk) for chunk in chunks),
    ]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_document_is_created_from_one_message_and_found(
    documents: stubs.DocumentServiceStub, agent: stubs.AgentServiceStub, parent: str
) -> None:
    uri = "https://harbour.example/notes/buoy.md"
    request = inline(parent, TEXT.encode(), "buoy", uri=uri, name="not read")
    created = (await documents.CreateDocument(request)).document
    assert created.name == f"{parent}/documents/buoy"
    assert (created.title, created.uri) == ("Bell buoy", uri)
    assert created.mime_type == "text/markdown"
    assert (created.size_bytes, created.sha256) == (len(TEXT), sha256(TEXT.encode()))
    assert created.passage_count == 1
    assert created.indexing_state == pb.INDEXING_STATE_INDEXED
    assert created.create_time == created.update_time
    found = await documents.GetDocument(pb.GetDocumentRequest(name=created.name))
    assert found.document == created
    response = await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, collection=parent))
    assert "painted orange" in response.answer.text
    (citation,) = response.answer.citations
    assert (citation.document, citation.title, citation.uri) == (created.name, "Bell buoy", uri)
    place = citation.location
    assert list(place.headings) == ["Bell buoy"]
    assert TEXT[place.start_offset : place.end_offset] == citation.snippet


async def test_a_document_is_imported_in_pieces(
    documents: stubs.DocumentServiceStub, parent: str
) -> None:
    content = ("\ufeff" + TEXT + "\n\n鮑\n").encode()
    chunks = [content[at : at + 1] for at in range(len(content))]
    response = await documents.ImportDocument(iter([*pieces(parent, *chunks, b"")]))
    assert response.outcome == pb.IMPORT_OUTCOME_CREATED
    assert response.document.sha256 == sha256(content)
    assert response.document.size_bytes == len(content)


async def test_an_unchanged_document_is_left_alone(
    documents: stubs.DocumentServiceStub, parent: str
) -> None:
    known = {"document_id": "buoy", "uri": "https://harbour.example/buoy.md"}
    first = await documents.ImportDocument(iter(pieces(parent, TEXT.encode(), **known)))
    again = await documents.ImportDocument(iter(pieces(parent, TEXT.encode(), **known)))
    hashed = pieces(parent, expected=sha256(TEXT.encode()).upper(), **known)
    announced = await documents.ImportDocument(iter(hashed))
    for response in (again, announced):
        assert response.outcome == pb.IMPORT_OUTCOME_UNCHANGED
        assert response.document == first.document


@pytest.mark.parametrize(
    ("change", "content"),
    [
        ({"title": "Another title"}, TEXT),
        ({"uri": "https://harbour.example/other.md"}, TEXT),
        ({"mime_type": "text/plain"}, TEXT),
        ({}, TEXT.replace("orange", "green")),
    ],
)
async def test_a_changed_document_is_replaced(
    documents: stubs.DocumentServiceStub,
    channel: grpc.aio.Channel,
    parent: str,
    change: dict[str, str],
    content: str,
) -> None:
    known = {"document_id": "buoy", "uri": "https://harbour.example/buoy.md"}
    first = await documents.ImportDocument(iter(pieces(parent, TEXT.encode(), **known)))
    request = pieces(
        parent, content.encode(), expected=sha256(content.encode()), **{**known, **change}
    )
    second = await documents.ImportDocument(iter(request))
    assert second.outcome == pb.IMPORT_OUTCOME_REPLACED
    assert second.document.create_time == first.document.create_time
    assert second.document.update_time.ToNanoseconds() > first.document.update_time.ToNanoseconds()
    for field, value in change.items():
        assert getattr(second.document, field) == value
    retrieval = stubs.RetrievalServiceStub(channel)
    found = await retrieval.Search(pb.SearchRequest(query=QUESTION, collection=parent))
    assert len(found.results) == 1
    assert content.endswith(found.results[0].text.rpartition("\n")[2])


async def test_a_document_that_was_replaced_answers_as_a_new_one_does(
    documents: stubs.DocumentServiceStub, agent: stubs.AgentServiceStub, parent: str
) -> None:
    for colour in ("blue", "green", "orange"):
        content = TEXT.replace("orange", colour).encode()
        await documents.ImportDocument(iter(pieces(parent, content, document_id="buoy")))
        answer = await agent.AskQuestion(
            pb.AskQuestionRequest(question=QUESTION, collection=parent)
        )
        assert f"painted {colour}" in answer.answer.text


async def test_content_that_is_not_what_the_hash_says_is_refused(
    documents: stubs.DocumentServiceStub, parent: str, failure_of: Any
) -> None:
    request = pieces(parent, b"something else", expected=sha256(b"something"), document_id="x")
    failure = await failure_of(documents.ImportDocument(iter(request)))
    assert failure.code == "INVALID_ARGUMENT"
    assert list(failure.violations) == ["header.expected_sha256"]
    name = f"{parent}/documents/x"
    gone = await failure_of(documents.GetDocument(pb.GetDocumentRequest(name=name)))
    assert gone.reason == "DOCUMENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "header"),
        ([pb.ImportDocumentRequest(chunk=b"text")], "header"),
        ([pb.ImportDocumentRequest()], "header"),
        ([*pieces("collections/c", b"text"), *pieces("collections/c")], "chunk"),
        ([*pieces("collections/c", b"text"), pb.ImportDocumentRequest()], "chunk"),
    ],
    ids=["nothing", "chunk first", "empty first", "header twice", "empty later"],
)
async def test_pieces_out_of_order_are_refused(
    documents: stubs.DocumentServiceStub, requests: list[Any], field: str, failure_of: Any
) -> None:
    failure = await failure_of(documents.ImportDocument(iter(requests)))
    assert failure.code == "INVALID_ARGUMENT"
    assert list(failure.violations) == [field]


async def test_an_id_is_given_once(
    documents: stubs.DocumentServiceStub, parent: str, failure_of: Any
) -> None:
    request = inline(parent, TEXT.encode(), "buoy")
    await documents.CreateDocument(request)
    failure = await failure_of(documents.CreateDocument(request))
    assert (failure.code, failure.reason) == ("ALREADY_EXISTS", "DOCUMENT_ALREADY_EXISTS")
    info = failure.detail("ResourceInfo")
    assert info.resource_type == "kotaemon/Document"
    assert info.resource_name.endswith("/documents/buoy")


async def test_an_id_is_derived_from_the_uri(
    documents: stubs.DocumentServiceStub, parent: str, failure_of: Any
) -> None:
    uri = "https://harbour.example/a%20b/buoy.txt"
    first = (await documents.CreateDocument(inline(parent, TEXT.encode(), uri=uri))).document
    again = await failure_of(documents.CreateDocument(inline(parent, b"other", uri=uri)))
    assert again.reason == "DOCUMENT_ALREADY_EXISTS"
    other = (await documents.CreateDocument(inline(parent, b"text", uri=uri + "x"))).document
    assert other.name != first.name
    replaced = await documents.ImportDocument(iter(pieces(parent, b"other", uri=uri)))
    assert replaced.outcome == pb.IMPORT_OUTCOME_REPLACED
    assert replaced.document.name == first.name


async def test_without_a_uri_the_server_chooses_an_id(
    documents: stubs.DocumentServiceStub, parent: str
) -> None:
    first = (await documents.CreateDocument(inline(parent, TEXT.encode()))).document
    second = (await documents.CreateDocument(inline(parent, TEXT.encode()))).document
    assert first.name != second.name
    assert first.uri == f"kotaemon:{first.name}"


@pytest.mark.parametrize(
    ("known", "content", "title", "mime_type"),
    [
        ({"uri": "https://h.example/x.md"}, "# One\n\ntext", "One", "text/markdown"),
        ({"uri": "https://h.example/x.MARKDOWN"}, "# One\n\ntext", "One", "text/markdown"),
        ({"uri": "https://h.example/x.md?v=2"}, "# One\n\ntext", "One", "text/markdown"),
        ({"uri": "https://h.example/a%20b.md"}, "no heading", "a b.md", "text/markdown"),
        ({"uri": "https://h.example/dir/"}, "no heading", "dir", "text/plain"),
        ({"uri": "urn:isbn:12"}, "no heading", "12", "text/plain"),
        ({"uri": "https://h.example/x.txt"}, "# One\n\ntext", "x.txt", "text/plain"),
        ({"uri": "https://h.example/x.md", "title": "Mine"}, "# One\n\nt", "Mine", "text/markdown"),
        ({"uri": "https://h.example/x.txt", "mime_type": "text/markdown"}, "# One\n\nt", "One", ""),
        ({"mime_type": "text/markdown"}, "# One\n\nt", "One", ""),
        ({}, "# One", "", "text/plain"),
    ],
)
async def test_what_is_not_said_is_filled_in(
    documents: stubs.DocumentServiceStub,
    parent: str,
    *,
    known: dict[str, str],
    content: str,
    title: str,
    mime_type: str,
) -> None:
    made = (await documents.CreateDocument(inline(parent, content.encode(), **known))).document
    assert made.title == (title or made.name.rpartition("/")[2])
    assert made.mime_type == (mime_type or known["mime_type"])


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8 with a mark", "utf-16-le", "utf-16-be", "crlf"],
)
async def test_text_in_other_forms_is_read(
    documents: stubs.DocumentServiceStub,
    agent: stubs.AgentServiceStub,
    parent: str,
    content: bytes,
) -> None:
    request = inline(parent, content, mime_type="text/markdown")
    made = (await documents.CreateDocument(request)).document
    assert (made.title, made.size_bytes) == ("Bell buoy", len(content))
    answer = await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, collection=parent))
    (citation,) = answer.answer.citations
    text = TEXT if b"\r\n" not in content else TEXT.replace("\n", "\r\n")
    place = citation.location
    assert text[place.start_offset : place.end_offset] == citation.snippet


@pytest.mark.parametrize(
    "content",
    [b"", b" \n\t", b"\xff\xfe", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"caf\xe9", bytes(range(32))],
    ids=["empty", "blank", "mark alone", "png", "latin-1", "controls"],
)
async def test_content_that_is_no_text_is_refused(
    documents: stubs.DocumentServiceStub, parent: str, content: bytes, failure_of: Any
) -> None:
    request = inline(parent, content, "x", mime_type="text/markdown")
    for call in (
        documents.CreateDocument(request),
        documents.ImportDocument(iter(pieces(parent, content, document_id="x"))),
    ):
        failure = await failure_of(call)
        assert failure.code == "INVALID_ARGUMENT"
        assert list(failure.violations) == ["content"]
    listing = documents.ListDocuments(pb.ListDocumentsRequest(parent=parent))
    assert (await failure_of(listing)).reason == "COLLECTION_NOT_FOUND"


async def test_a_document_over_the_limit_is_refused(
    start: Callable[..., Any], failure_of: Any
) -> None:
    server = start("--set", "documents.max_document_bytes=100000")
    async with server.channel() as channel:
        documents = stubs.DocumentServiceStub(channel)
        line = b"a line of text\n"
        fits = (line * 10_000)[:100_000]
        made = await documents.CreateDocument(inline("collections/c", fits, "fits"))
        assert made.document.size_bytes == 100_000
        over = pieces("collections/c", fits, b"x", document_id="over")
        for make_call in (
            lambda: documents.CreateDocument(inline("collections/c", fits + b"x", "over")),
            lambda: documents.ImportDocument(iter(over)),
        ):
            failure = await failure_of(make_call())
            assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "DOCUMENT_TOO_LARGE")
            assert failure.detail("ErrorInfo").metadata["max_bytes"] == "100000"
            (violation,) = failure.detail("QuotaFailure").violations
            assert violation.subject == "document"
        listed = await documents.ListDocuments(pb.ListDocumentsRequest(parent="collections/c"))
        assert [document.name for document in listed.documents] == [made.document.name]


async def test_documents_are_listed_by_id_page_after_page(
    documents: stubs.DocumentServiceStub, parent: str
) -> None:
    ids = [f"{number:02d}" for number in range(25)]
    for document_id in reversed(ids):
        await documents.CreateDocument(inline(parent, b"some text", document_id))
    request = pb.ListDocumentsRequest(parent=parent, page_size=10)
    listed, sizes = [], []
    while True:
        page = await documents.ListDocuments(request)
        listed += [document.name for document in page.documents]
        sizes.append(len(page.documents))
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert listed == [f"{parent}/documents/{document_id}" for document_id in ids]
    assert sizes == [10, 10, 5]
    exact = await documents.ListDocuments(pb.ListDocumentsRequest(parent=parent, page_size=25))
    assert not exact.next_page_token
    whole = await documents.ListDocuments(pb.ListDocumentsRequest(parent=parent))
    assert [document.name for document in whole.documents] == listed


async def test_a_page_token_works_for_its_own_collection_alone(
    documents: stubs.DocumentServiceStub, parent: str, failure_of: Any
) -> None:
    other = f"{parent}-2"
    for collection in (parent, other):
        for document_id in ("a", "b"):
            await documents.CreateDocument(inline(collection, b"some text", document_id))
    page = await documents.ListDocuments(pb.ListDocumentsRequest(parent=parent, page_size=1))
    token = page.next_page_token
    own = await documents.ListDocuments(pb.ListDocumentsRequest(parent=parent, page_token=token))
    assert len(own.documents) == 1
    for collection, bad in ((other, token), (parent, token.swapcase()), (parent, token[:-2])):
        request = pb.ListDocumentsRequest(parent=collection, page_token=bad)
        failure = await failure_of(documents.ListDocuments(request))
        assert failure.code == "INVALID_ARGUMENT"
        assert list(failure.violations) == ["page_token"]


async def test_a_deleted_document_is_gone(
    documents: stubs.DocumentServiceStub,
    agent: stubs.AgentServiceStub,
    parent: str,
    failure_of: Any,
) -> None:
    await documents.CreateDocument(inline(parent, TEXT.encode(), "buoy"))
    await documents.CreateDocument(inline(parent, b"About something else.", "other"))
    name = f"{parent}/documents/buoy"
    await documents.DeleteDocument(pb.DeleteDocumentRequest(name=name))
    answer = await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, collection=parent))
    assert answer.answer.finish_reason == pb.FINISH_REASON_NOTHING_FOUND
    for call in (
        documents.GetDocument(pb.GetDocumentRequest(name=name)),
        documents.DeleteDocument(pb.DeleteDocumentRequest(name=name)),
    ):
        failure = await failure_of(call)
        assert (failure.code, failure.reason) == ("NOT_FOUND", "DOCUMENT_NOT_FOUND")
        info = failure.detail("ResourceInfo")
        assert info.resource_type == "kotaemon/Document"
        assert info.resource_name.endswith("/documents/buoy")


async def test_a_collection_is_there_as_long_as_it_has_a_document(
    documents: stubs.DocumentServiceStub,
    agent: stubs.AgentServiceStub,
    channel: grpc.aio.Channel,
    parent: str,
    failure_of: Any,
) -> None:
    retrieval = stubs.RetrievalServiceStub(channel)
    await documents.CreateDocument(inline(parent, TEXT.encode(), "buoy"))
    request = pb.DeleteDocumentRequest(name=f"{parent}/documents/buoy")
    await documents.DeleteDocument(request)
    for call in (
        documents.ListDocuments(pb.ListDocumentsRequest(parent=parent)),
        agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION, collection=parent)),
        agent.StreamAnswer(pb.StreamAnswerRequest(question=QUESTION, collection=parent)),
        retrieval.Search(pb.SearchRequest(query=QUESTION, collection=parent)),
    ):
        failure = await failure_of(call)
        assert (failure.code, failure.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")
        assert failure.detail("ResourceInfo").resource_type == "kotaemon/Collection"


async def test_the_default_collection_is_there_when_it_is_empty(
    start: Callable[..., Any],
) -> None:
    async with start().channel() as channel:
        answer = await stubs.AgentServiceStub(channel).AskQuestion(
            pb.AskQuestionRequest(question=QUESTION)
        )
        assert answer.answer.finish_reason == pb.FINISH_REASON_NOTHING_FOUND
        found = await stubs.RetrievalServiceStub(channel).Search(pb.SearchRequest(query=QUESTION))
        assert not found.results
        listed = await stubs.DocumentServiceStub(channel).ListDocuments(
            pb.ListDocumentsRequest(parent="collections/default")
        )
        assert not listed.documents


async def test_collections_do_not_see_each_other(
    documents: stubs.DocumentServiceStub, agent: stubs.AgentServiceStub, parent: str
) -> None:
    await documents.CreateDocument(inline(parent, TEXT.encode(), "buoy"))
    elsewhere = await agent.AskQuestion(pb.AskQuestionRequest(question=QUESTION))
    assert "orange" not in elsewhere.answer.text
