"""What is refused and what administrators change is written down; no secret ever is."""

from __future__ import annotations

import json
from typing import Any

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2

AGENT = "kotaemon.v2.AgentService"
DOCUMENTS = "kotaemon.v2.DocumentService"
CONVERSATIONS = "kotaemon.v2.ConversationService"
SEARCH = "kotaemon.v2.RetrievalService/Search"
PLANTED_QUESTION = "Is the merger with Umbrella on Friday?"
PLANTED_TEXT = "The merger with Umbrella is on Friday the thirteenth."
PLANTED_WORDS = ("merger", "Umbrella", "thirteenth")
ADMIN = {"listener": "certificate", "certificate": "client"}
DEVELOPER = "spiffe://kotaemon-grpc.dev/developer"


def creation(document: str) -> v2.CreateDocumentRequest:
    return v2.CreateDocumentRequest(
        parent="collections/default",
        document_id=document,
        document=v2.Document(uri=f"file:///{document}.md", title=PLANTED_TEXT),
        content=f"# Secret\n\n{PLANTED_TEXT}".encode(),
    )


def imports(document: str) -> list[v2.ImportDocumentRequest]:
    header = v2.ImportDocumentHeader(
        parent="collections/default",
        document_id=document,
        document=v2.Document(uri=f"file:///{document}.md"),
    )
    return [
        v2.ImportDocumentRequest(header=header),
        v2.ImportDocumentRequest(chunk=PLANTED_TEXT.encode()),
    ]


def writes(document: str, conversation: str) -> dict[str, tuple[list[Any], str]]:
    """Every method that changes something: its messages, and the resource in the log."""
    name = f"collections/default/documents/{document}"
    return {
        f"{DOCUMENTS}/CreateDocument": ([creation(document)], name),
        f"{DOCUMENTS}/ImportDocument": (imports(document), name),
        f"{DOCUMENTS}/DeleteDocument": ([v2.DeleteDocumentRequest(name=name)], name),
        f"{CONVERSATIONS}/CreateConversation": (
            [v2.CreateConversationRequest(conversation_id=conversation)],
            f"conversations/{conversation}",
        ),
        f"{CONVERSATIONS}/DeleteConversation": (
            [v2.DeleteConversationRequest(name=f"conversations/{conversation}")],
            f"conversations/{conversation}",
        ),
    }


def reads() -> dict[str, Any]:
    return {
        f"{DOCUMENTS}/ListDocuments": v2.ListDocumentsRequest(parent="collections/default"),
        f"{DOCUMENTS}/GetDocument": v2.GetDocumentRequest(name="collections/default/documents/a"),
        f"{CONVERSATIONS}/ListConversations": v2.ListConversationsRequest(),
        f"{AGENT}/AskQuestion": v2.AskQuestionRequest(question=PLANTED_QUESTION),
        f"{AGENT}/StreamAnswer": v2.StreamAnswerRequest(question=PLANTED_QUESTION),
        "kotaemon.v1.AgentService/ChatStream": v1.Message(role="user", content=PLANTED_QUESTION),
        SEARCH: v2.SearchRequest(query=PLANTED_QUESTION),
    }


def named(shown: dict[str, str], request_id: str) -> dict[str, str]:
    return {**shown, "x-request-id": request_id}


def audited(house: Any) -> dict[str, dict[str, Any]]:
    """Stop the server, so that all is written, and return its audit log by request."""
    assert house.serving.stop() == 0
    lines = [line for line in house.serving.lines if line.get("logger") == "audit"]
    assert lines == [line for line in house.serving.lines if line["event"].startswith("audit.")]
    by_request = {line["request_id"]: line for line in lines}
    assert len(by_request) == len(lines)
    return by_request


async def test_writes_of_administrators_are_written_down_and_nothing_else_they_do(
    own_house: Any,
) -> None:
    house, expected = own_house, {}
    shown = house.bearer("acme", "admin")
    for who, how, document in (
        ("by certificate", {**ADMIN, "shown": {}}, "a"),
        ("by token", {"shown": shown}, "b"),
    ):
        for path, (requests, resource) in writes(document, f"talk-{document}").items():
            request_id = f"{path} {who}".replace(" ", "-")
            call = {**how, "shown": named(how["shown"], request_id)}
            assert (await house.call(path, *requests, **call)).code == "OK"
            expected[request_id] = (path, resource, who)
        for path, request in reads().items():
            await house.call(path, request, **how)
    editor = house.bearer("acme", "editor")
    for path, (requests, _) in writes("c", "talk-c").items():
        assert (await house.call(path, *requests, shown=editor)).code == "OK"
    lines = audited(house)
    assert lines.keys() == expected.keys()
    for request_id, (path, resource, who) in expected.items():
        line = lines[request_id]
        assert line["event"] == "audit.write"
        assert f"{line['grpc_service']}/{line['grpc_method']}" == path
        assert (line["resource"], line["grpc_code"], line["reason"]) == (resource, "OK", "")
        principal, tenant, credential = (
            (DEVELOPER, "default", "certificate")
            if who == "by certificate"
            else ("rs:alice", "acme", "jwt")
        )
        assert (line["principal"], line["tenant"]) == (principal, tenant)
        assert line["credential"] == credential


async def test_denials_are_written_down_with_who_was_denied_what(own_house: Any) -> None:
    house = own_house
    elsewhere, nobody = house.bearer("acme", "elsewhere"), {}
    create = creation("denied")
    delete = v2.DeleteDocumentRequest(name="collections/default/documents/denied")
    get = v2.GetDocumentRequest(name="collections/default/documents/denied")
    user = house.bearer("globex", "user", sub="bob")
    for request_id, method, request, shown in (
        ("unknown", "CreateDocument", create, nobody),
        ("method", "CreateDocument", create, user),
        ("written", "CreateDocument", create, elsewhere),
        ("deleted", "DeleteDocument", delete, elsewhere),
        ("read", "GetDocument", get, elsewhere),
        ("answered", "GetDocument", get, user),
    ):
        await house.call(f"{DOCUMENTS}/{method}", request, shown=named(shown, request_id))
    lines = audited(house)
    assert all(line["event"] == "audit.denied" for line in lines.values())
    found = {
        request_id: (line["reason"], line["principal"], line["tenant"])
        for request_id, line in lines.items()
    }
    assert found == {
        "unknown": ("CREDENTIALS_MISSING", "", ""),
        "method": ("METHOD_NOT_ALLOWED", "rs:bob", "globex"),
        "written": ("COLLECTION_NOT_ALLOWED", "rs:alice", "acme"),
        "deleted": ("COLLECTION_NOT_ALLOWED", "rs:alice", "acme"),
        "read": ("COLLECTION_NOT_ALLOWED", "rs:alice", "acme"),
    }
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines.values())
    assert lines["written"]["resource"] == "collections/default/documents/denied"
    assert lines["deleted"]["resource"] == "collections/default/documents/denied"


async def test_nothing_secret_is_ever_written(own_house: Any) -> None:
    house = own_house
    idp = house.issuers["rs"]
    for listener in ("jwt", "api_key", "jwt, api_key", "certificate"):
        for shown in (
            {"authorization": f"Bearer {idp.token('acme', 'admin')}"},
            {"authorization": f"Bearer {idp.forged('acme', 'admin')}"},
            {"authorization": f"Bearer {idp.token('acme', 'admin', exp=1_000_000_000)}"},
            {"authorization": idp.token("acme", "admin")},  # without the word before it
            {"x-api-key": house.key},
            {"x-api-key": house.revoked_key},
            {"x-api-key": house.key[:-1]},
        ):
            certificate = "client" if listener == "certificate" else ""
            for path, (requests, _) in writes("a", "talk").items():
                await house.call(
                    path, *requests, shown=shown, listener=listener, certificate=certificate
                )
            for path, request in {**reads(), f"{DOCUMENTS}/CreateDocument": creation("a")}.items():
                await house.call(
                    path, request, shown=shown, listener=listener, certificate=certificate
                )
    page, metrics = house.fetch("/"), house.fetch("/metrics")
    assert house.serving.stop() == 0
    written = "\n".join(
        [
            *(json.dumps(each, ensure_ascii=False) for each in house.serving.lines),
            *house.serving.errors,
            page,
            metrics,
        ]
    )
    assert "CREDENTIALS_EXPIRED" in written  # it was searched where such things would be
    for token in idp.made:
        header, *rest = token.split(".")
        assert not any(part in written for part in (f"{header}.", *rest))
    for key in (house.key, house.revoked_key):
        assert key.partition(".")[2][:-1] not in written
    for word in PLANTED_WORDS:
        assert word not in written
