"""kotaemon.v1: the first contract. What it cannot say, it drops."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urldefrag

from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.errors import ShuttingDown
from kotaemon_grpc.core.model import DEFAULT_COLLECTION, Question, TextDelta
from kotaemon_grpc.pb.v1 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.core.ask import Asking
    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.leaving import Leaving
    from kotaemon_grpc.core.model import Citation

SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]
UNVERSIONED_NAME = "kotaemon.AgentService"
"""What clients call that were built from the file whose package was `kotaemon`."""

_CONVERSATIONS = "conversations/"
_COLLECTIONS = "collections/"
_USER = "user"
_ASSISTANT = "assistant"


class AgentService:
    """Implements `kotaemon.v1.AgentService`."""

    def __init__(self, asking: Asking, leaving: Leaving) -> None:
        """Take the use case, and what tells that the server is about to stop."""
        self._asking = asking
        self._leaving = leaving

    async def ask_question(
        self, request: pb.QuestionRequest, context: Context
    ) -> pb.AnswerResponse:
        """Answer one question."""
        question, conversation = question_from_pb(request, context.caller)
        dialogue = await self._asking.open(context, conversation)
        answer = await dialogue.answer(question)
        references = dict.fromkeys(reference_of(citation) for citation in answer.citations)
        return pb.AnswerResponse(answer=answer.text, references=references)

    async def chat_stream(
        self, requests: AsyncIterator[pb.Message], context: Context
    ) -> AsyncIterator[pb.Message]:
        """Answer each message of the user, with the earlier ones as its history.

        When the server is about to stop, the stream ends after the answer that has begun,
        with an error: this contract has no other way to say that a message which is on
        its way is not answered.
        """
        dialogue = await self._asking.open(context)
        while (request := await self._leaving.next_before(requests)) is not None:
            question = turn_from_pb(request, context.caller)
            async with aclosing(dialogue.ask(question)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        yield pb.Message(
                            role=_ASSISTANT, content=event.text, timestamp=int(time.time())
                        )
        if self._leaving.is_said:
            raise ShuttingDown


def question_from_pb(request: pb.QuestionRequest, caller: Caller) -> tuple[Question, str]:
    """Return the question and the id of its conversation, or an empty id.

    The ids in the context may be bare or full names.

    Raises:
        InvalidArgument: with every field that breaks a constraint.
        PermissionDenied: the caller may not see the collection.
    """
    checks = Checks()
    context = checks.context("context", request.context)
    collection = context.pop("collection", "").removeprefix(_COLLECTIONS)
    conversation = context.pop("conversation", "").removeprefix(_CONVERSATIONS)
    language = context.pop("language", "")
    checks.optional_id('context["conversation"]', conversation)
    checks.optional_id('context["collection"]', collection)
    text = checks.question("query", request.query)
    checks.language('context["language"]', language)
    checks.done()
    scope = caller.scope(collection or DEFAULT_COLLECTION)
    return Question(text, scope, language, context), conversation


def turn_from_pb(message: pb.Message, caller: Caller) -> Question:
    """Return the question of a message.

    Raises:
        InvalidArgument: with every field that breaks a constraint.
        PermissionDenied: the caller may not see the collection.
    """
    checks = Checks()
    if message.role != _USER:
        checks.violation("role", f'must be "{_USER}"')
    text = checks.question("content", message.content)
    checks.done()
    return Question(text, caller.scope())


def reference_of(citation: Citation) -> str:
    """Return the URI of what is cited, with a fragment for the place in it.

    The fragment counts characters as RFC 5147, section 2.1.1, does; RFC 7763 lets
    Markdown use it too. It replaces a fragment that the URI had.
    """
    location = citation.location
    return f"{urldefrag(citation.document.uri).url}#char={location.start},{location.end}"
