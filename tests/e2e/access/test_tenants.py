"""No way leads from one tenant to what another has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

AGENT = "kotaemon.v2.AgentService"
CONVERSATIONS = "kotaemon.v2.ConversationService"
DOCUMENTS = "kotaemon.v2.DocumentService"
SEARCH = "kotaemon.v2.RetrievalService/Search"
V1 = ("kotaemon.AgentService", "kotaemon.v1.AgentService")
CANTEEN = "When does the canteen open?"
OPENS = {"acme": "11:42", "globex": "07:15"}
ROCKET = "What is the colour of the rocket?"  # of which only "acme" knows
OTHER = {"acme": "globex", "globex": "acme"}
BOTH = pytest.mark.parametrize("tenant", OPENS)


def chat(question: str, **start: Any) -> list[Message]:
    return [
        v2.ChatStreamRequest(start=v2.ChatStart(**start)),
        v2.ChatStreamRequest(message=v2.ChatMessage(question=question)),
    ]


def said(question: str, **more: Any) -> dict[str, list[Message]]:
    """Ask a question by every method that answers one, of v2."""
    return {
        f"{AGENT}/AskQuestion": [v2.AskQuestionRequest(question=question, **more)],
        f"{AGENT}/StreamAnswer": [v2.StreamAnswerRequest(question=question, **more)],
        f"{AGENT}/ChatStream": chat(question, **more),
    }


def said_v1(question: str, **context: str) -> dict[str, list[Message]]:
    """Likewise of v1; a chat has no context."""
    asked = {
        f"{each}/AskQuestion": [v1.QuestionRequest(query=question, context=context)] for each in V1
    }
    if not context:
        message = v1.Message(role="user", content=question)
        asked |= {f"{each}/ChatStream": [message] for each in V1}
    return asked


@BOTH
async def test_every_method_that_answers_answers_from_the_caller_s_tenant(
    house: Any, tenant: str
) -> None:
    shown = house.bearer(tenant, "editor")
    search = {SEARCH: [v2.SearchRequest(query=CANTEEN)]}
    for path, requests in {**said(CANTEEN), **said_v1(CANTEEN), **search}.items():
        reply = await house.call(path, *requests, shown=shown)
        assert reply.code == "OK", path
        assert OPENS[tenant] in reply.text, path
        assert OPENS[OTHER[tenant]] not in reply.text, path
        assert f"file:///{OTHER[tenant]}/" not in reply.text, path


async def test_what_only_another_tenant_knows_is_not_found(house: Any) -> None:
    search = {SEARCH: [v2.SearchRequest(query=ROCKET)]}
    for path, requests in {**said(ROCKET), **said_v1(ROCKET), **search}.items():
        mine = await house.call(path, *requests, shown=house.bearer("acme", "user"))
        assert "heliotrope" in mine.text, path
        reply = await house.call(path, *requests, shown=house.bearer("globex", "admin"))
        assert reply.code == "OK", path
        for word in ("heliotrope", "rocket.md", "documents/rocket"):
            assert word not in reply.text, path


@pytest.mark.parametrize("collection", ["plans", "made"])
async def test_another_tenant_s_collection_does_not_exist(house: Any, collection: str) -> None:
    name = f"collections/{collection}"
    calls = {
        **said(ROCKET, collection=name),
        **said_v1(ROCKET, collection=collection),
        f"{DOCUMENTS}/ListDocuments": [v2.ListDocumentsRequest(parent=name)],
        SEARCH: [v2.SearchRequest(query=ROCKET, collection=name)],
    }
    calls |= {f"{path} ": requests for path, requests in said_v1(ROCKET, collection=name).items()}
    shown = house.bearer("initech", "admin")  # for whom other tests write nothing
    for path, requests in calls.items():
        reply = await house.call(path.strip(), *requests, shown=shown)
        assert (reply.code, reply.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND"), path


async def test_another_tenant_s_conversation_cannot_be_continued(house: Any) -> None:
    shown = house.bearer("globex", "admin")
    name = "conversations/talk"
    calls = {
        **said(CANTEEN, conversation=name),
        **said_v1(CANTEEN, conversation="talk"),
        f"{CONVERSATIONS}/GetConversation": [v2.GetConversationRequest(name=name)],
        f"{CONVERSATIONS}/ListTurns": [v2.ListTurnsRequest(parent=name)],
        f"{CONVERSATIONS}/DeleteConversation": [v2.DeleteConversationRequest(name=name)],
    }
    calls |= {f"{path} ": each for path, each in said_v1(CANTEEN, conversation=name).items()}
    for path, requests in calls.items():
        reply = await house.call(path.strip(), *requests, shown=shown)
        assert (reply.code, reply.reason) == ("NOT_FOUND", "CONVERSATION_NOT_FOUND"), path
    turns = v2.ListTurnsRequest(parent=name)
    reply = await house.call(
        f"{CONVERSATIONS}/ListTurns", turns, shown=house.bearer("acme", "user")
    )
    assert [turn.question for turn in reply.messages[0].turns] == [CANTEEN, ROCKET]


async def test_another_tenant_s_document_can_neither_be_had_nor_deleted(house: Any) -> None:
    shown = house.bearer("globex", "admin")
    name = "collections/default/documents/rocket"
    get, delete = v2.GetDocumentRequest(name=name), v2.DeleteDocumentRequest(name=name)
    for method, request in (("GetDocument", get), ("DeleteDocument", delete)):
        reply = await house.call(f"{DOCUMENTS}/{method}", request, shown=shown)
        assert (reply.code, reply.reason) == ("NOT_FOUND", "DOCUMENT_NOT_FOUND")
    reply = await house.call(f"{DOCUMENTS}/GetDocument", get, shown=house.bearer("acme", "user"))
    assert reply.messages[0].document.uri == "file:///acme/rocket.md"


async def test_a_new_conversation_belongs_to_the_caller_s_tenant(house: Any) -> None:
    begun: dict[str, str] = {}
    for tenant in OPENS:
        for path, requests in said(CANTEEN, conversation="conversations/-").items():
            reply = await house.call(path, *requests, shown=house.bearer(tenant, "user"))
            last = reply.messages[-1]
            done = last if path.endswith("AskQuestion") else last.completed
            begun[done.conversation] = tenant
    assert len(begun) == 2 * len(said(""))
    for name, owner in begun.items():
        for tenant in OPENS:
            reply = await house.call(
                f"{CONVERSATIONS}/GetConversation",
                v2.GetConversationRequest(name=name),
                shown=house.bearer(tenant, "user"),
            )
            assert reply.code == ("OK" if tenant == owner else "NOT_FOUND")


@BOTH
async def test_lists_have_what_the_tenant_has(house: Any, tenant: str) -> None:
    shown = house.bearer(tenant, "user")
    own = {"acme": "talk", "globex": "chatter"}
    listed = await house.call(
        f"{CONVERSATIONS}/ListConversations",
        v2.ListConversationsRequest(page_size=1000),
        shown=shown,
    )
    names = {each.name for each in listed.messages[0].conversations}
    assert f"conversations/{own[tenant]}" in names
    assert f"conversations/{own[OTHER[tenant]]}" not in names
    documents = await house.call(
        f"{DOCUMENTS}/ListDocuments",
        v2.ListDocumentsRequest(parent="collections/default", page_size=1000),
        shown=shown,
    )
    uris = {each.uri for each in documents.messages[0].documents}
    assert f"file:///{tenant}/handbook.md" in uris
    assert not any(OTHER[tenant] in uri for uri in uris)


PAGED: dict[str, Callable[[str], Message]] = {
    f"{CONVERSATIONS}/ListConversations": lambda token: v2.ListConversationsRequest(
        page_size=1, page_token=token
    ),
    f"{CONVERSATIONS}/ListTurns": lambda token: v2.ListTurnsRequest(
        parent="conversations/shared", page_size=1, page_token=token
    ),
    f"{DOCUMENTS}/ListDocuments": lambda token: v2.ListDocumentsRequest(
        parent="collections/paged", page_size=1, page_token=token
    ),
    SEARCH: lambda token: v2.SearchRequest(
        query="Which number has the page?",
        collection="collections/paged",
        page_size=1,
        page_token=token,
    ),
}


async def fill_two_pages(house: Any, tenant: str) -> None:
    """Give a tenant lists of two pages, under the same names as others have."""
    shown = house.bearer(tenant, "editor")
    for number in ("one", "two"):
        await house.call(
            f"{DOCUMENTS}/CreateDocument",
            v2.CreateDocumentRequest(
                parent="collections/paged",
                document_id=number,
                document=v2.Document(uri=f"file:///{tenant}/{number}.md"),
                content=f"# Page\n\nThe page of {tenant} has the number {number}.".encode(),
            ),
            shown=shown,
        )
    await house.call(
        f"{CONVERSATIONS}/CreateConversation",
        v2.CreateConversationRequest(conversation_id="shared"),
        shown=shown,
    )
    turn = v2.AskQuestionRequest(question=CANTEEN, conversation="conversations/shared")
    for _ in range(2):
        assert (await house.call(f"{AGENT}/AskQuestion", turn, shown=shown)).code == "OK"


async def test_a_page_token_of_another_tenant_is_refused(house: Any) -> None:
    for tenant in OPENS:
        await fill_two_pages(house, tenant)
    for path, request in PAGED.items():
        tokens = {}
        for tenant in OPENS:
            shown = house.bearer(tenant, "user")
            first = await house.call(path, request(""), shown=shown)
            tokens[tenant] = first.messages[0].next_page_token
            assert tokens[tenant], path
            assert (await house.call(path, request(tokens[tenant]), shown=shown)).code == "OK"
        for tenant, other in OTHER.items():
            shown = house.bearer(tenant, "admin")
            reply = await house.call(path, request(tokens[other]), shown=shown)
            assert reply.code == "INVALID_ARGUMENT", path
            assert reply.failure.violations.keys() == {"page_token"}, path


def creation(tenant: str, collection: str, text: str) -> v2.CreateDocumentRequest:
    return v2.CreateDocumentRequest(
        parent=f"collections/{collection}",
        document_id="same",
        document=v2.Document(uri=f"file:///{tenant}/same.md"),
        content=text.encode(),
    )


async def test_the_same_ids_in_two_tenants_do_not_mix(house: Any, new_id: str) -> None:
    name = f"collections/{new_id}/documents/same"
    shown = {tenant: house.bearer(tenant, "editor") for tenant in OPENS}
    for tenant in OPENS:
        request = creation(tenant, new_id, f"# Same\n\nThe word of {tenant} is {tenant}-word.")
        created = await house.call(f"{DOCUMENTS}/CreateDocument", request, shown=shown[tenant])
        assert created.code == "OK"
        talk = v2.CreateConversationRequest(conversation_id=new_id)
        made = await house.call(f"{CONVERSATIONS}/CreateConversation", talk, shown=shown[tenant])
        assert made.code == "OK"
    header = v2.ImportDocumentHeader(
        parent=f"collections/{new_id}",
        document_id="same",
        document=v2.Document(uri="file:///acme/same.md"),
    )
    replaced = await house.call(
        f"{DOCUMENTS}/ImportDocument",
        v2.ImportDocumentRequest(header=header),
        v2.ImportDocumentRequest(chunk=b"# Same\n\nThe word of acme is another-word."),
        shown=shown["acme"],
    )
    assert replaced.messages[0].outcome == v2.IMPORT_OUTCOME_REPLACED
    ask = v2.AskQuestionRequest(question="What is the word?", collection=f"collections/{new_id}")
    for tenant, word in (("acme", "another-word"), ("globex", "globex-word")):
        reply = await house.call(f"{AGENT}/AskQuestion", ask, shown=shown[tenant])
        assert word in reply.text
        assert all(c.uri == f"file:///{tenant}/same.md" for c in reply.messages[0].answer.citations)
    delete = v2.DeleteDocumentRequest(name=name)
    farewell = v2.DeleteConversationRequest(name=f"conversations/{new_id}")
    await house.call(f"{DOCUMENTS}/DeleteDocument", delete, shown=shown["acme"])
    await house.call(f"{CONVERSATIONS}/DeleteConversation", farewell, shown=shown["acme"])
    get = v2.GetDocumentRequest(name=name)
    look = v2.GetConversationRequest(name=f"conversations/{new_id}")
    for tenant, code in (("acme", "NOT_FOUND"), ("globex", "OK")):
        assert (await house.call(f"{DOCUMENTS}/GetDocument", get, shown=shown[tenant])).code == code
        assert (
            await house.call(f"{CONVERSATIONS}/GetConversation", look, shown=shown[tenant])
        ).code == code


async def test_turns_about_a_collection_that_a_role_does_not_grant_are_hidden(
    house: Any, new_id: str
) -> None:
    everything, some = house.bearer("acme", "editor"), house.bearer("acme", "planner")
    create = v2.CreateConversationRequest(conversation_id=new_id)
    await house.call(f"{CONVERSATIONS}/CreateConversation", create, shown=everything)
    conversation = f"conversations/{new_id}"
    for collection, question in (("default", ROCKET), ("plans", "When does the rocket fly?")):
        turn = v2.AskQuestionRequest(
            question=question, collection=f"collections/{collection}", conversation=conversation
        )
        assert (await house.call(f"{AGENT}/AskQuestion", turn, shown=everything)).code == "OK"
    listed = v2.ListTurnsRequest(parent=conversation)
    reply = await house.call(f"{CONVERSATIONS}/ListTurns", listed, shown=some)
    assert [turn.collection for turn in reply.messages[0].turns] == ["collections/plans"]
    get = v2.GetConversationRequest(name=conversation)
    shown = await house.call(f"{CONVERSATIONS}/GetConversation", get, shown=some)
    assert "rocket" not in shown.text
    assert (
        ROCKET in (await house.call(f"{CONVERSATIONS}/GetConversation", get, shown=everything)).text
    )
