"""Every constraint of `proto/v2/agent.proto`, by the name that the client has for the field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    import grpc

LONG = "a" * 8193
C = "collections/c"
BAD_IDS = ["A", "-a", ".a", "_a", "a b", "a" * 64, "é", "a\n"]
BAD_COLLECTIONS = [
    "c", "collections", "collections/", "collections/-", "collection/c", "collections/c/",
    "/collections/c", "collections/c/documents/d", *(f"collections/{i}" for i in BAD_IDS),
]  # fmt: skip
BAD_CONVERSATIONS = [
    "-", "c", "conversations/", "conversation/c", "conversations/c/turns/1",
    *(f"conversations/{i}" for i in BAD_IDS),
]  # fmt: skip
BAD_DOCUMENTS = [
    "", "d", C, f"{C}/documents", f"{C}/documents/", f"documents/d/{C}", f"{C}/documents/d/x",
    *(f"{C}/documents/{i}" for i in BAD_IDS), "collections/C/documents/d",
]  # fmt: skip
BAD_QUESTIONS = ["", " ", "\n\t", "\u3000\u00a0", LONG]
BAD_LANGUAGES = ["_", "e", "en_GB", "en-", "-en", "en-" + "a" * 9, "zh" + "-abcdefgh" * 4, "日"]
BAD_CONTEXTS: list[tuple[dict[str, str], str]] = [
    ({str(number): "" for number in range(33)}, "context"),
    ({"": "x"}, "context"),
    ({"k" * 65: "x"}, "context"),
    ({"k": "x" * 4097}, 'context["k"]'),
]
BAD_URIS = [
    "relative/path.md", "//host/x", "no scheme", "http://h/a b", "http://h/\n", "http://[",
    "http://h/" + "a" * 2040,
]  # fmt: skip
TITLES_WITH_CONTROLS = ["a\nb", "a\t", "\0", "\x1b[1m", "\x7f", "\x80", "\x9f"]
BAD_SHA256 = ["0", "g" * 64, "0" * 63, "0" * 65, "é" * 64]


def rows() -> list[Any]:
    """List method, request and field; the request breaks a constraint of that field alone."""
    found: list[tuple[str, str, Any, str]] = []

    def add(service: str, method: str, field: str, requests: list[Any]) -> None:
        found.extend((service, method, request, field) for request in requests)

    for method, kind in (
        ("AskQuestion", pb.AskQuestionRequest),
        ("StreamAnswer", pb.StreamAnswerRequest),
    ):
        add("Agent", method, "question", [kind(question=bad) for bad in BAD_QUESTIONS])
        for field, values in (
            ("collection", BAD_COLLECTIONS),
            ("conversation", BAD_CONVERSATIONS),
            ("language_code", BAD_LANGUAGES),
        ):
            add("Agent", method, field, [kind(question="q", **{field: bad}) for bad in values])
        for context, field in BAD_CONTEXTS:
            add("Agent", method, field, [kind(question="q", context=context)])

    create = pb.CreateConversationRequest
    add("Conversation", "CreateConversation", "conversation_id",
        [create(conversation_id=bad) for bad in (*BAD_IDS, "-", "conversations/c")])  # fmt: skip
    add("Conversation", "CreateConversation", "conversation.title",
        [create(conversation=pb.Conversation(title=bad))
         for bad in ("t" * 257, *TITLES_WITH_CONTROLS)])  # fmt: skip
    for method in ("Get", "Delete"):
        conversation = getattr(pb, f"{method}ConversationRequest")
        named = [conversation(name=bad) for bad in (*BAD_CONVERSATIONS, "", "conversations/-")]
        add("Conversation", f"{method}Conversation", "name", named)
        document = getattr(pb, f"{method}DocumentRequest")
        named = [document(name=bad) for bad in BAD_DOCUMENTS]
        add("Document", f"{method}Document", "name", named)
    add("Conversation", "ListConversations", "page_size",
        [pb.ListConversationsRequest(page_size=-1)])  # fmt: skip
    turns = pb.ListTurnsRequest
    add("Conversation", "ListTurns", "parent",
        [turns(parent=bad) for bad in (*BAD_CONVERSATIONS, "")])  # fmt: skip
    add("Conversation", "ListTurns", "page_size", [turns(parent="conversations/c", page_size=-1)])

    search = pb.SearchRequest
    add("Retrieval", "Search", "query", [search(query=bad) for bad in BAD_QUESTIONS])
    add("Retrieval", "Search", "collection",
        [search(query="q", collection=bad) for bad in BAD_COLLECTIONS])  # fmt: skip
    add("Retrieval", "Search", "page_size", [search(query="q", page_size=-1)])
    add("Retrieval", "Search", "page_token",
        [search(query="q", page_token=bad) for bad in ("10", "a" * 30)])  # fmt: skip

    listing = pb.ListDocumentsRequest
    add("Document", "ListDocuments", "parent",
        [listing(parent=bad) for bad in (*BAD_COLLECTIONS, "")])  # fmt: skip
    add("Document", "ListDocuments", "page_size", [listing(parent=C, page_size=-1)])

    for field, known in known_of_documents():
        made = [pb.CreateDocumentRequest(content=b"text", **{"parent": C, **k}) for k in known]
        add("Document", "CreateDocument", field, made)
        headers = [pb.ImportDocumentHeader(**{"parent": C, **k}) for k in known]
        add("Document", "ImportDocument", f"header.{field}", headers)
    add("Document", "ImportDocument", "header.expected_sha256",
        [pb.ImportDocumentHeader(parent=C, expected_sha256=bad) for bad in BAD_SHA256])  # fmt: skip
    return [
        pytest.param(*row, id=f"{row[1]}-{row[3]}-{number}") for number, row in enumerate(found)
    ]


def known_of_documents() -> list[tuple[str, list[dict[str, Any]]]]:
    def documents(**fields: list[str]) -> list[dict[str, Any]]:
        ((name, values),) = fields.items()
        return [{"document": pb.Document(**{name: value})} for value in values]

    return [
        ("parent", [{"parent": bad} for bad in (*BAD_COLLECTIONS, "")]),
        ("document_id", [{"document_id": bad} for bad in BAD_IDS]),
        ("document.title", documents(title=["t" * 513, *TITLES_WITH_CONTROLS])),
        ("document.uri", documents(uri=BAD_URIS)),
        ("document.mime_type", documents(mime_type=["text/html", "markdown", "TEXT/PLAIN"])),
    ]


@pytest.mark.parametrize(("service", "method", "request_message", "field"), rows())
async def test_a_field_that_breaks_a_constraint_is_named(  # noqa: PLR0917 - a row of the table
    channel: grpc.aio.Channel,
    failure_of: Any,
    service: str,
    method: str,
    request_message: Any,
    field: str,
) -> None:
    call = getattr(getattr(stubs, f"{service}ServiceStub")(channel), method)
    if isinstance(request_message, pb.ImportDocumentHeader):
        request_message = iter([pb.ImportDocumentRequest(header=request_message)])
    failure = await failure_of(call(request_message))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")
    assert list(failure.violations) == [field]
    description = failure.violations[field]
    assert description[0].islower()
    assert not description.endswith(".")


async def test_all_violations_of_a_message_are_told_at_once(
    channel: grpc.aio.Channel, failure_of: Any
) -> None:
    request = pb.AskQuestionRequest(
        collection="nope", conversation="nope", language_code="_", context={"": "x"}
    )
    failure = await failure_of(stubs.AgentServiceStub(channel).AskQuestion(request))
    assert set(failure.violations) == {
        "question", "collection", "conversation", "language_code", "context",
    }  # fmt: skip


async def test_what_is_just_within_the_constraints_is_taken(channel: grpc.aio.Channel) -> None:
    request = pb.AskQuestionRequest(
        question="鮑" * 8192,
        collection="collections/default",
        language_code="zh-Hant-abcdefgh-abcdefgh-abcdefgh",
        context={f"{number:064d}": "x" * 4096 for number in range(32)},
    )
    assert (await stubs.AgentServiceStub(channel).AskQuestion(request)).answer.text
    document = pb.Document(title="\u00a0\u2028é" + "t" * 509, uri="urn:" + "a" * 2044)
    longest = pb.CreateDocumentRequest(
        parent="collections/" + "c" * 63, document_id="0" * 63, document=document, content=b"x"
    )
    documents = stubs.DocumentServiceStub(channel)
    made = (await documents.CreateDocument(longest)).document
    assert (made.title, made.uri) == (document.title, document.uri)
    conversation = pb.Conversation(title="t" * 256)
    kept = await stubs.ConversationServiceStub(channel).CreateConversation(
        pb.CreateConversationRequest(conversation=conversation, conversation_id="9._-" + "c" * 59)
    )
    assert kept.conversation.title == conversation.title
