"""kotaemon.v2.AgentService and the events of its streams."""

from __future__ import annotations

from contextlib import aclosing
from itertools import count
from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.to_pb import answer_to_pb, citation_to_pb, completed_to_pb
from kotaemon_grpc.core.ask import NEW_CONVERSATION
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.model import CitationAdded, Question, TextDelta
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.rpc import status_pb2

    from kotaemon_grpc.core.ask import Asking
    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.model import AnswerEvent

SERVICE = pb.DESCRIPTOR.services_by_name["AgentService"]


class AgentService:
    """Implements `kotaemon.v2.AgentService`."""

    def __init__(self, asking: Asking) -> None:
        """Take the use case."""
        self._asking = asking

    async def ask_question(
        self, request: pb.AskQuestionRequest, context: Context
    ) -> pb.AskQuestionResponse:
        """Answer one question, whole."""
        question, conversation = question_from_pb(request, context.caller)
        dialogue = await self._asking.open(context, conversation)
        answer = await dialogue.answer(question)
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
        async with aclosing(dialogue.ask(question)) as events:
            async for event in events:
                yield _answer_event(event, next(numbers))

    async def chat_stream(
        self, requests: AsyncIterator[pb.ChatStreamRequest], context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        """Answer one message after the other, with the earlier ones as their history."""
        start = pb.ChatStart()
        dialogue = None
        numbers = count(1)
        turn_number = 0
        async for request in requests:
            match request.WhichOneof("request"):
                case "start" if dialogue is None:
                    conversation = conversation_from_pb(request.start)
                    dialogue = await self._asking.open(context, conversation)
                    start = _kept(request.start)
                case "message":
                    dialogue = dialogue or await self._asking.open(context)
                    question = turn_from_pb(start, request.message, context.caller)
                    turn_number += 1
                    async with aclosing(dialogue.ask(question)) as events:
                        async for event in events:
                            yield _chat_event(event, next(numbers), turn_number)
                case case:
                    reject_request(case)
            # The next one may be hours away: until then nothing of this one is kept.
            del request
        yield pb.ChatStreamResponse(
            sequence_number=next(numbers),
            completed=pb.ChatCompleted(
                conversation=conversation_name(dialogue.conversation if dialogue else "")
            ),
        )


def _kept(start: pb.ChatStart) -> pb.ChatStart:
    """Copy a valid start; as a part of its message it would keep all that came with it."""
    return pb.ChatStart(
        conversation=start.conversation,
        collection=start.collection,
        language_code=start.language_code,
        context=dict(start.context),
    )


def _answer_failed(status: status_pb2.Status, sequence_number: int) -> pb.StreamAnswerResponse:
    return pb.StreamAnswerResponse(sequence_number=sequence_number, failed=status)


def _chat_failed(status: status_pb2.Status, sequence_number: int) -> pb.ChatStreamResponse:
    return pb.ChatStreamResponse(sequence_number=sequence_number, failed=status)


FAILURE_MESSAGES = {"StreamAnswer": _answer_failed, "ChatStream": _chat_failed}
"""By method, what makes the terminal event of a stream that fails."""


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
    collection = checks.collection("start.collection", start.collection)
    checks.done()
    return Question(text, caller.scope(collection), start.language_code, dict(start.context))


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


def _answer_event(event: AnswerEvent, sequence_number: int) -> pb.StreamAnswerResponse:
    match event:
        case TextDelta():
            return pb.StreamAnswerResponse(
                sequence_number=sequence_number, text_delta=pb.TextDelta(text=event.text)
            )
        case CitationAdded():
            return pb.StreamAnswerResponse(
                sequence_number=sequence_number, citation=citation_to_pb(event.citation)
            )
        case _:
            return pb.StreamAnswerResponse(
                sequence_number=sequence_number, completed=completed_to_pb(event)
            )


def _chat_event(event: AnswerEvent, sequence_number: int, turn: int) -> pb.ChatStreamResponse:
    response = pb.ChatStreamResponse(sequence_number=sequence_number, turn_number=turn)
    match event:
        case TextDelta():
            response.text_delta.text = event.text
        case CitationAdded():
            response.citation.CopyFrom(citation_to_pb(event.citation))
        case _:
            response.turn_completed.CopyFrom(completed_to_pb(event))
    return response
