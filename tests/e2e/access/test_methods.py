"""Every method, for every kind of caller. A method without a row fails."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2

from .calls import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

HEALTH = "grpc.health.v1.Health"
QUESTION = "Which rocket flies on a Tuesday?"
LESS = {"user": "stranger", "editor": "user", "admin": "editor"}
"""For each role, one that must not do what it is needed for."""


@dataclass(frozen=True)
class Row:
    """A method, asked by a caller of the tenant "acme" for what is there.

    Args:
        least: the least of the built-in roles that may call it.
        requests: makes the messages; they name what only "acme" has, where the method
            names anything.
        elsewhere: the reason that another tenant is told; empty if it is answered,
            with nothing of "acme".
        collection: the collection that it uses; empty if none.
        answer: the code for who may call it.
    """

    least: str
    requests: Callable[[], list[Message]]
    elsewhere: str = ""
    collection: str = ""
    answer: str = "OK"


def fresh() -> str:
    return f"x{uuid.uuid4().hex}"


def v1_rows(service: str) -> dict[str, Row]:
    question = v1.QuestionRequest(query=QUESTION, context={"collection": "plans"})
    message = v1.Message(role="user", content=QUESTION)
    return {
        f"{service}/AskQuestion": Row("user", lambda: [question], "COLLECTION_NOT_FOUND", "plans"),
        f"{service}/ChatStream": Row("user", lambda: [message], collection="default"),
    }


def creation(**document: Any) -> v2.CreateDocumentRequest:
    document = {"parent": "collections/made", "document_id": fresh(), **document}
    document["document"] = v2.Document(uri="file:///made.md")
    return v2.CreateDocumentRequest(content=b"# Made\n\nThis was made.", **document)


def imported() -> list[Message]:
    header = v2.ImportDocumentHeader(
        parent="collections/made", document_id=fresh(), document=v2.Document(uri="file:///made.md")
    )
    return [
        v2.ImportDocumentRequest(header=header),
        v2.ImportDocumentRequest(chunk=b"# Made\n\nThis was made."),
    ]


PLAN = "collections/plans/documents/plan"
DOOMED = "collections/plans/documents/doomed"
ASKED = {"question": QUESTION, "collection": "collections/plans"}
AGENT_ROWS = {
    "AskQuestion": Row(
        "user", lambda: [v2.AskQuestionRequest(**ASKED)], "COLLECTION_NOT_FOUND", "plans"
    ),
    "StreamAnswer": Row(
        "user", lambda: [v2.StreamAnswerRequest(**ASKED)], "COLLECTION_NOT_FOUND", "plans"
    ),
    "ChatStream": Row(
        "user",
        lambda: [
            v2.ChatStreamRequest(start=v2.ChatStart(collection="collections/plans")),
            v2.ChatStreamRequest(message=v2.ChatMessage(question=QUESTION)),
        ],
        "COLLECTION_NOT_FOUND",
        "plans",
    ),
}
CONVERSATION_ROWS = {
    "CreateConversation": Row(
        "user", lambda: [v2.CreateConversationRequest(conversation_id=fresh())]
    ),
    "GetConversation": Row(
        "user",
        lambda: [v2.GetConversationRequest(name="conversations/talk")],
        "CONVERSATION_NOT_FOUND",
    ),
    "ListConversations": Row("user", lambda: [v2.ListConversationsRequest(page_size=1000)]),
    "ListTurns": Row(
        "user",
        lambda: [v2.ListTurnsRequest(parent="conversations/talk")],
        "CONVERSATION_NOT_FOUND",
    ),
    "DeleteConversation": Row(
        "user",
        lambda: [v2.DeleteConversationRequest(name="conversations/doomed")],
        "CONVERSATION_NOT_FOUND",
    ),
}
DOCUMENT_ROWS = {
    "CreateDocument": Row("editor", lambda: [creation()], collection="made"),
    "ImportDocument": Row("editor", imported, collection="made"),
    "GetDocument": Row(
        "user", lambda: [v2.GetDocumentRequest(name=PLAN)], "DOCUMENT_NOT_FOUND", "plans"
    ),
    "ListDocuments": Row(
        "user",
        lambda: [v2.ListDocumentsRequest(parent="collections/plans")],
        "COLLECTION_NOT_FOUND",
        "plans",
    ),
    "DeleteDocument": Row(
        "editor", lambda: [v2.DeleteDocumentRequest(name=DOOMED)], "DOCUMENT_NOT_FOUND", "plans"
    ),
}
SEARCH = Row(
    "user",
    lambda: [v2.SearchRequest(query=QUESTION, collection="collections/plans")],
    "COLLECTION_NOT_FOUND",
    "plans",
)
REFLECTION = Row("admin", lambda: [reflection_pb2.ServerReflectionRequest(list_services="")])
CHANNELZ = {
    "GetTopChannels": ("OK", channelz_pb2.GetTopChannelsRequest()),
    "GetServers": ("OK", channelz_pb2.GetServersRequest()),
    "GetServer": ("NOT_FOUND", channelz_pb2.GetServerRequest(server_id=10**9)),
    "GetServerSockets": ("NOT_FOUND", channelz_pb2.GetServerSocketsRequest(server_id=10**9)),
    "GetChannel": ("NOT_FOUND", channelz_pb2.GetChannelRequest(channel_id=10**9)),
    "GetSubchannel": ("NOT_FOUND", channelz_pb2.GetSubchannelRequest(subchannel_id=10**9)),
    "GetSocket": ("NOT_FOUND", channelz_pb2.GetSocketRequest(socket_id=10**9)),
}
ROWS = {
    **v1_rows("kotaemon.AgentService"),
    **v1_rows("kotaemon.v1.AgentService"),
    **{f"kotaemon.v2.AgentService/{name}": row for name, row in AGENT_ROWS.items()},
    **{f"kotaemon.v2.ConversationService/{name}": row for name, row in CONVERSATION_ROWS.items()},
    **{f"kotaemon.v2.DocumentService/{name}": row for name, row in DOCUMENT_ROWS.items()},
    "kotaemon.v2.RetrievalService/Search": SEARCH,
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": REFLECTION,
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": REFLECTION,
    **{
        f"grpc.channelz.v1.Channelz/{name}": Row(
            "admin", lambda request=request: [request], answer=answer
        )
        for name, (answer, request) in CHANNELZ.items()
    },
}
EVENTS = ("kotaemon.v2.AgentService/StreamAnswer", "kotaemon.v2.AgentService/ChatStream")
EVERY_METHOD = pytest.mark.parametrize("path", ROWS)

IDENTITY = {
    "no credential": "CREDENTIALS_MISSING",
    "malformed token": "CREDENTIALS_MALFORMED",
    "bad signature": "CREDENTIALS_NOT_TRUSTED",
    "expired": "CREDENTIALS_EXPIRED",
    "unknown API key": "CREDENTIALS_NOT_TRUSTED",
    "revoked API key": "CREDENTIALS_REVOKED",
}


@pytest.fixture
def shown(house: Any) -> dict[str, tuple[str, dict[str, str]]]:
    """For each kind of bad credentials, the listener and the metadata."""
    idp = house.issuers["rs"]
    return {
        "no credential": ("jwt", {}),
        "malformed token": ("jwt", {"authorization": "Bearer not.a-token"}),
        "bad signature": ("jwt", {"authorization": f"Bearer {idp.forged('acme', 'admin')}"}),
        "expired": ("jwt", house.bearer("acme", "admin", exp=1_000_000_000)),
        "unknown API key": ("api_key", {"x-api-key": f"0123456789abcdef.{'A' * 43}"}),
        "revoked API key": ("api_key", {"x-api-key": house.revoked_key}),
    }


def check_refusal(reply: Any, path: str, code: str, reason: str, locale: str = "en") -> None:
    """Check all that a caller is told."""
    failure = reply.failure
    assert failure is not None, reply.messages
    assert (failure.code, failure.reason) == (code, reason)
    assert failure.detail("ErrorInfo").domain == "kotaemon-grpc"
    assert failure.detail("RequestInfo").request_id == "asked-for"
    assert failure.detail("LocalizedMessage").locale == locale
    assert failure.detail("LocalizedMessage").message
    assert dict(failure.error.trailing_metadata())["x-request-id"] == "asked-for"
    if path in EVENTS:
        (event,) = reply.messages
        assert event.failed == failure.status
    else:
        assert reply.messages == []


def test_every_method_that_a_descriptor_has_has_a_row() -> None:
    assert METHODS.keys() == ROWS.keys()


async def test_every_service_that_is_served_has_rows(house: Any) -> None:
    path = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    reply = await house.call(path, *REFLECTION.requests(), shown=house.bearer("acme", "admin"))
    (response,) = reply.messages
    served = {service.name for service in response.list_services_response.service}
    assert served == {path.partition("/")[0] for path in ROWS} | {HEALTH}


@EVERY_METHOD
async def test_nobody_who_is_not_known_may_call(
    house: Any, shown: dict[str, tuple[str, dict[str, str]]], path: str
) -> None:
    assert shown.keys() == IDENTITY.keys()
    for kind, reason in IDENTITY.items():
        listener, metadata = shown[kind]
        metadata = {**metadata, "x-request-id": "asked-for", "accept-language": "zh-CN, en;q=0.5"}
        reply = await house.call(path, *ROWS[path].requests(), listener=listener, shown=metadata)
        check_refusal(reply, path, "UNAUTHENTICATED", reason, "zh-CN")


@EVERY_METHOD
async def test_a_role_that_does_not_allow_a_method_denies_it(house: Any, path: str) -> None:
    for roles in ([], [LESS[ROWS[path].least]]):
        metadata = {**house.bearer("acme", *roles), "x-request-id": "asked-for"}
        if path.endswith("/GetTopChannels") and roles == ["stranger"]:
            continue
        reply = await house.call(path, *ROWS[path].requests(), shown=metadata)
        check_refusal(reply, path, "PERMISSION_DENIED", "METHOD_NOT_ALLOWED")
        assert reply.failure.detail("ErrorInfo").metadata["method"] == path


@pytest.mark.parametrize("path", [path for path, row in ROWS.items() if row.collection])
async def test_a_role_without_the_collection_denies_it(house: Any, path: str) -> None:
    metadata = {**house.bearer("acme", "elsewhere"), "x-request-id": "asked-for"}
    reply = await house.call(path, *ROWS[path].requests(), shown=metadata)
    check_refusal(reply, path, "PERMISSION_DENIED", "COLLECTION_NOT_ALLOWED")
    denied = reply.failure.detail("ResourceInfo")
    assert denied.resource_type == "kotaemon/Collection"
    assert denied.resource_name == f"collections/{ROWS[path].collection}"


@EVERY_METHOD
async def test_another_tenant_gets_nothing(house: Any, path: str) -> None:
    row = ROWS[path]
    metadata = {**house.bearer("globex", "admin"), "x-request-id": "asked-for"}
    reply = await house.call(path, *row.requests(), shown=metadata)
    if row.elsewhere:
        check_refusal(reply, path, "NOT_FOUND", row.elsewhere)
    else:
        assert reply.code == row.answer
        for word in ("zephyrous", "heliotrope", "11:42", "acme", "talk"):
            assert word not in reply.text


@EVERY_METHOD
async def test_the_least_role_that_may_is_answered(house: Any, path: str) -> None:
    row = ROWS[path]
    reply = await house.call(path, *row.requests(), shown=house.bearer("acme", row.least))
    assert reply.code == row.answer, reply.failure
    if row.answer == "OK":
        assert reply.messages


def health_of(channel: grpc.Channel) -> int:
    with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=30).status


def test_health_needs_no_credentials(house: Any) -> None:
    serving = health_pb2.HealthCheckResponse.SERVING
    assert health_of(grpc.insecure_channel(house.serving.health_address)) == serving
    for listener in ("jwt", "api_key", "jwt, api_key", "jwt over 1.3"):
        assert health_of(house.channel(listener)) == serving
    for listener in ("certificate", "certificate+jwt", "certificate+api_key"):
        assert health_of(house.channel(listener, "unbound")) == serving
        with pytest.raises(grpc.RpcError) as caught:
            health_of(house.channel(listener))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
