"""Every method that names a collection asks the policy before it does anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.api import v1
from kotaemon_grpc.api.v2 import agent, document, retrieval
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.errors import InvalidArgument, PermissionDenied
from kotaemon_grpc.core.leaving import Leaving
from kotaemon_grpc.pb.v1 import agent_pb2 as pb1
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CONTEXT = Context(Caller("staff", "acme", ("public-*",)))


class ReachedError(Exception):
    """The use case was asked to do its work."""


class UseCase:
    """Stands for every use case, and for the dialogue that one of them opens."""

    async def open(self, context: Context, conversation: str = "") -> UseCase:
        del context, conversation
        return self

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def called(*_: Any, **__: Any) -> Any:
            raise ReachedError(name)

        return called


async def stream(*messages: Any) -> AsyncIterator[Any]:
    for message in messages:
        yield message


def chat(collection: str) -> AsyncIterator[pb.ChatStreamRequest]:
    return stream(
        pb.ChatStreamRequest(start=pb.ChatStart(collection=collection)),
        pb.ChatStreamRequest(message=pb.ChatMessage(question="why?")),
    )


USE_CASE: Any = UseCase()
LEAVING = Leaving()
AGENT_V1, AGENT = v1.AgentService(USE_CASE, LEAVING), agent.AgentService(USE_CASE, LEAVING)
DOCUMENTS = document.DocumentService(USE_CASE)
RETRIEVAL = retrieval.RetrievalService(USE_CASE)

# Method by method, a call that names a collection.
CALLS: dict[str, Callable[[str], Any]] = {
    "v1.AskQuestion": lambda name: AGENT_V1.ask_question(
        pb1.QuestionRequest(query="why?", context={"collection": name}), CONTEXT
    ),
    "AskQuestion": lambda name: AGENT.ask_question(
        pb.AskQuestionRequest(question="why?", collection=name), CONTEXT
    ),
    "StreamAnswer": lambda name: AGENT.stream_answer(
        pb.StreamAnswerRequest(question="why?", collection=name), CONTEXT
    ),
    "ChatStream": lambda name: AGENT.chat_stream(chat(name), CONTEXT),
    "Search": lambda name: RETRIEVAL.search(
        pb.SearchRequest(query="why?", collection=name), CONTEXT
    ),
    "CreateDocument": lambda name: DOCUMENTS.create_document(
        pb.CreateDocumentRequest(parent=name, content=b"x"), CONTEXT
    ),
    "ImportDocument": lambda name: DOCUMENTS.import_document(
        stream(pb.ImportDocumentRequest(header=pb.ImportDocumentHeader(parent=name))), CONTEXT
    ),
    "GetDocument": lambda name: DOCUMENTS.get_document(
        pb.GetDocumentRequest(name=f"{name}/documents/d"), CONTEXT
    ),
    "ListDocuments": lambda name: DOCUMENTS.list_documents(
        pb.ListDocumentsRequest(parent=name), CONTEXT
    ),
    "DeleteDocument": lambda name: DOCUMENTS.delete_document(
        pb.DeleteDocumentRequest(name=f"{name}/documents/d"), CONTEXT
    ),
}


async def outcome(result: Any) -> None:
    if hasattr(result, "__anext__"):
        async for _ in result:
            pass
    else:
        await result


@pytest.mark.parametrize("method", CALLS)
async def test_a_collection_that_is_not_granted_is_refused(method: str) -> None:
    with pytest.raises(PermissionDenied) as raised:
        await outcome(CALLS[method]("collections/board"))
    assert raised.value.collection == "collections/board"


@pytest.mark.parametrize("method", CALLS)
async def test_a_collection_that_is_granted_reaches_the_use_case(method: str) -> None:
    with pytest.raises(ReachedError):
        await outcome(CALLS[method]("collections/public-1"))


@pytest.mark.parametrize("method", CALLS)
async def test_a_name_that_is_none_is_the_clients_mistake_and_no_denial(method: str) -> None:
    with pytest.raises(InvalidArgument):
        await outcome(CALLS[method]("collections/No!"))


@pytest.mark.parametrize(
    "call",
    [
        lambda: AGENT_V1.chat_stream(stream(pb1.Message(role="user", content="why?")), CONTEXT),
        lambda: AGENT_V1.ask_question(pb1.QuestionRequest(query="why?"), CONTEXT),
        lambda: AGENT.ask_question(pb.AskQuestionRequest(question="why?"), CONTEXT),
        lambda: AGENT.chat_stream(chat(""), CONTEXT),
        lambda: RETRIEVAL.search(pb.SearchRequest(query="why?"), CONTEXT),
    ],
)
async def test_who_may_not_see_the_default_collection_has_to_name_another(
    call: Callable[[], Any],
) -> None:
    with pytest.raises(PermissionDenied):
        await outcome(call())
