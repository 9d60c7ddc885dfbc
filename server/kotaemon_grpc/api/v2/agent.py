"""kotaemon.v2.AgentService."""

from __future__ import annotations

from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.claims import claim_of
from kotaemon_grpc.api.v2.events import (
    FAILURE_MESSAGES,
    answer_event,
    answer_going_away,
    chat_completed,
    chat_event,
    chat_going_away,
)
from kotaemon_grpc.api.v2.to_pb import answer_to_pb
from kotaemon_grpc.core.ask import NEW_CONVERSATION
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.model import Question
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.core.ask import Asking, Dialogue
    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.leaving import Leaving
    from kotaemon_grpc.core.once import Claim

__all__ = ["FAILURE_MESSAGES", "SERVICE", "AgentService"]

SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]
_NOT_STARTED = pb.ChatStart()
"""What is meant where a client says nothing of it. Shared: nobody changes it."""


class AgentService:
    """Implements `kotaemon.v2.AgentService`."""

    def __init__(self, asking: Asking, leaving: Leaving) -> None:
        """Take the use case, and what tells that the server is about to stop."""
        self._asking = asking
        self._leaving = leaving

    async def ask_question(
        self, request: pb.AskQuestionRequest, context: Context
    ) -> pb.AskQuestionResponse:
        """Answer one question, whole."""
        question, conversation = question_from_pb(request, context.caller)
        dialogue = await self._asking.open(context, conversation)
        answer = await dialogue.answer(question, claim_of(request, context.caller))
        return pb.AskQuestionResponse(
            answer=answer_to_pb(answer), conversation=conversation_name(dialogue.conversation)
        )

    async def stream_answer(
        self, request: pb.StreamAnswerRequest, context: Context
    ) -> AsyncIterator[pb.StreamAnswerResponse]:
        """Answer one question as it is written."""
        question, conversation = question_from_pb(request, context.caller)
        dialogue = await self._asking.open(context, conversation)
        numbers = count(1)
        is_told = False
        claim = claim_of(request, context.caller)
        async with aclosing(dialogue.ask(question, claim)) as events:
            async for event in events:
                if self._leaving.is_said and not is_told:
                    is_told = True
                    yield answer_going_away(self._leaving.grace_s, next(numbers))
                yield answer_event(event, next(numbers))

    async def chat_stream(
        self, requests: AsyncIterator[pb.ChatStreamRequest], context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        """Answer one message after the other, with the earlier ones as their history."""
        start = _NOT_STARTED
        dialogue = None
        numbers = count(1)
        turn_number = 0
        is_told = False
        while (request := await self._leaving.next_before(requests)) is not None:
            match request.WhichOneof("request"):
                case "start" if dialogue is None:
                    conversation = conversation_from_pb(request.start)
                    dialogue = await self._asking.open(context, conversation)
                    start = _kept(request.start)
                case "message":
                    dialogue = dialogue or await self._asking.open(context)
                    question = turn_from_pb(start, request.message, context.caller)
                    claim = turn_claim_of(start, request.message, dialogue, context.caller)
                    turn_number += 1
                    async with aclosing(dialogue.ask(question, claim)) as events:
                        async for event in events:
                            if self._leaving.is_said and not is_told:
                                is_told = True
                                yield chat_going_away(self._leaving.grace_s, next(numbers))
                            yield chat_event(event, next(numbers), turn_number)
                    # The next one may be hours away: until then nothing of this one is kept.
                    del question, claim, events, event
                case case:
                    reject_request(case)
            del request
        if self._leaving.is_said and not is_told:
            yield chat_going_away(self._leaving.grace_s, next(numbers))
        yield chat_completed(dialogue.conversation if dialogue else "", next(numbers))


def _kept(start: pb.ChatStart) -> pb.ChatStart:
    """Copy a valid start; as a part of its message it would keep all that came with it."""
    return pb.ChatStart(
        conversation=start.conversation,
        collection=start.collection,
        language_code=start.language_code,
        context=dict(start.context),
    )


def question_from_pb(
    request: pb.AskQuestionRequest | pb.StreamAnswerRequest, caller: Caller
) -> tuple[Question, str]:
    """Return the question and the id of its conversation, or an empty id.

    Raises:
        InvalidArgument: with every field that breaks a constraint.
        PermissionDenied: the caller may not see the collection.
    """
    checks = Checks()
    text = checks.question("question", request.question)
    collection = checks.collection("collection", request.collection)
    language = checks.language("language_code", request.language_code)
    context = checks.context("context", request.context)
    conversation = _conversation(checks, "conversation", request.conversation)
    checks.request_id("request_id", request.request_id)
    checks.done()
    return Question(text, caller.scope(collection), language, context), conversation


def conversation_from_pb(start: pb.ChatStart) -> str:
    """Check how a dialogue is to be held, and return the id of its conversation, or an empty id.

    Raises:
        InvalidArgument: with every field that breaks a constraint.
    """
    checks = Checks()
    conversation = _conversation(checks, "start.conversation", start.conversation)
    checks.collection("start.collection", start.collection)
    checks.language("start.language_code", start.language_code)
    checks.context("start.context", start.context)
    checks.done()
    return conversation


def turn_from_pb(start: pb.ChatStart, message: pb.ChatMessage, caller: Caller) -> Question:
    """Return the question of a turn of a dialogue whose start was checked.

    Raises:
        InvalidArgument: the question breaks a constraint.
        PermissionDenied: the caller may not see the collection.
    """
    checks = Checks()
    text = checks.question("message.question", message.question)
    checks.request_id("message.request_id", message.request_id)
    collection = checks.collection("start.collection", start.collection)
    checks.done()
    return Question(text, caller.scope(collection), start.language_code, dict(start.context))


def turn_claim_of(
    start: pb.ChatStart, message: pb.ChatMessage, dialogue: Dialogue, caller: Caller
) -> Claim | None:
    """Return the claim of a turn; None if it has no id.

    A turn means what it does by the start of its dialogue, too; and by the conversation
    that was begun since, so that a dialogue which goes on with it by its name repeats it.
    """
    if not message.request_id:
        return None
    if dialogue.conversation:
        said_before = _kept(start)
        said_before.conversation = conversation_name(dialogue.conversation)
        start = said_before
    return claim_of(message, caller, start, field="message.request_id")


def reject_request(case: str | None) -> None:
    """Refuse a message of a dialogue that says nothing, or a start that comes too late.

    Raises:
        InvalidArgument: always.
    """
    checks = Checks()
    if case is None:
        checks.violation("request", 'must be "start" or "message"')
    else:
        checks.violation(case, "must be the first message of the stream")
    checks.done()


def _conversation(checks: Checks, field: str, name: str) -> str:
    if not name or name == conversation_name(NEW_CONVERSATION):
        return name.rpartition("/")[2]
    return checks.name(field, name, "conversations")[0]
