"""The events of the streams of kotaemon.v2.AgentService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from kotaemon_grpc.api.v2.to_pb import citation_to_pb, completed_to_pb
from kotaemon_grpc.core.model import CitationAdded, TextDelta
from kotaemon_grpc.core.names import conversation_name
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from google.rpc import status_pb2

    from kotaemon_grpc.core.model import AnswerEvent


def _answer_failed(status: status_pb2.Status, sequence_number: int) -> pb.StreamAnswerResponse:
    return pb.StreamAnswerResponse(sequence_number=sequence_number, failed=status)


def _chat_failed(status: status_pb2.Status, sequence_number: int) -> pb.ChatStreamResponse:
    return pb.ChatStreamResponse(sequence_number=sequence_number, failed=status)


FAILURE_MESSAGES = {"StreamAnswer": _answer_failed, "ChatStream": _chat_failed}
"""By method, what makes the terminal event of a stream that fails."""


def answer_event(event: AnswerEvent, sequence_number: int) -> pb.StreamAnswerResponse:
    """Translate an event of an answer."""
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


def answer_going_away(grace_s: float, sequence_number: int) -> pb.StreamAnswerResponse:
    """Say in an answer that the server is about to stop."""
    return pb.StreamAnswerResponse(sequence_number=sequence_number, going_away=_going_away(grace_s))


def chat_event(event: AnswerEvent, sequence_number: int, turn: int) -> pb.ChatStreamResponse:
    """Translate an event of a turn of a dialogue."""
    response = pb.ChatStreamResponse(sequence_number=sequence_number, turn_number=turn)
    match event:
        case TextDelta():
            response.text_delta.text = event.text
        case CitationAdded():
            response.citation.CopyFrom(citation_to_pb(event.citation))
        case _:
            response.turn_completed.CopyFrom(completed_to_pb(event))
    return response


def chat_going_away(grace_s: float, sequence_number: int) -> pb.ChatStreamResponse:
    """Say in a dialogue, of which it is no turn, that the server is about to stop."""
    return pb.ChatStreamResponse(sequence_number=sequence_number, going_away=_going_away(grace_s))


def chat_completed(conversation: str, sequence_number: int) -> pb.ChatStreamResponse:
    """End a dialogue that went well; `conversation` is the id that keeps it, or empty."""
    return pb.ChatStreamResponse(
        sequence_number=sequence_number,
        completed=pb.ChatCompleted(conversation=conversation_name(conversation)),
    )


def _going_away(grace_s: float) -> pb.GoingAway:
    grace = Duration()
    grace.FromNanoseconds(round(grace_s * 1e9))
    return pb.GoingAway(grace=grace)
