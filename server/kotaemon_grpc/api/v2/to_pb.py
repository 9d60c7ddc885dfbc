"""Domain values to messages of kotaemon.v2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from kotaemon_grpc.core.model import FinishReason, ImportOutcome, IndexingState
from kotaemon_grpc.core.names import collection_name, conversation_name, document_name
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from datetime import datetime

    from kotaemon_grpc.core import model
    from kotaemon_grpc.core.conversation import Conversation, Turn

_FINISH_REASONS = {
    FinishReason.ANSWERED: pb.FINISH_REASON_ANSWERED,
    FinishReason.NOTHING_FOUND: pb.FINISH_REASON_NOTHING_FOUND,
}
_INDEXING_STATES = {
    IndexingState.INDEXING: pb.INDEXING_STATE_INDEXING,
    IndexingState.INDEXED: pb.INDEXING_STATE_INDEXED,
}
_OUTCOMES = {
    ImportOutcome.CREATED: pb.IMPORT_OUTCOME_CREATED,
    ImportOutcome.REPLACED: pb.IMPORT_OUTCOME_REPLACED,
    ImportOutcome.UNCHANGED: pb.IMPORT_OUTCOME_UNCHANGED,
}


def answer_to_pb(answer: model.Answer) -> pb.Answer:
    """Translate an answer with its citations."""
    return pb.Answer(
        text=answer.text,
        citations=[citation_to_pb(citation) for citation in answer.citations],
        finish_reason=_FINISH_REASONS[answer.finish_reason],
        usage=pb.Usage(
            input_tokens=answer.usage.input_tokens,
            output_tokens=answer.usage.output_tokens,
            passages=answer.usage.passages,
        ),
    )


def citation_to_pb(citation: model.Citation) -> pb.Citation:
    """Translate a citation."""
    document = citation.document
    return pb.Citation(
        document=document_name(document.scope.collection, document.id),
        title=document.title,
        uri=document.uri,
        location=location_to_pb(citation.location),
        snippet=citation.snippet,
        score=citation.score,
        spans=[
            pb.TextSpan(start_offset=span.start, end_offset=span.end) for span in citation.spans
        ],
    )


def location_to_pb(location: model.Location) -> pb.Location:
    """Translate a place in a document."""
    return pb.Location(
        headings=location.headings, start_offset=location.start, end_offset=location.end
    )


def completed_to_pb(event: model.AnswerCompleted) -> pb.AnswerCompleted:
    """Translate the end of an answer."""
    return pb.AnswerCompleted(
        answer=answer_to_pb(event.answer), conversation=conversation_name(event.conversation)
    )


def hit_to_pb(hit: model.Hit) -> pb.SearchResult:
    """Translate a passage that was found."""
    return pb.SearchResult(
        document=document_name(hit.document.scope.collection, hit.document.id),
        title=hit.document.title,
        uri=hit.document.uri,
        location=location_to_pb(hit.passage.location),
        text=hit.passage.text,
        score=hit.score,
    )


def document_to_pb(document: model.Document) -> pb.Document:
    """Translate a stored document."""
    return pb.Document(
        name=document_name(document.scope.collection, document.id),
        title=document.title,
        uri=document.uri,
        mime_type=document.mime_type,
        size_bytes=document.size_bytes,
        sha256=document.sha256,
        passage_count=document.passage_count,
        indexing_state=_INDEXING_STATES[document.indexing_state],
        create_time=time_to_pb(document.created_at),
        update_time=time_to_pb(document.updated_at),
    )


def outcome_to_pb(outcome: ImportOutcome) -> pb.ImportOutcome:
    """Translate what an import did."""
    return _OUTCOMES[outcome]


def conversation_to_pb(conversation: Conversation) -> pb.Conversation:
    """Translate a kept conversation."""
    return pb.Conversation(
        name=conversation_name(conversation.id),
        title=conversation.title,
        create_time=time_to_pb(conversation.created_at),
        update_time=time_to_pb(conversation.updated_at),
        turn_count=conversation.turn_count,
    )


def turn_to_pb(conversation: str, turn: Turn) -> pb.Turn:
    """Translate a turn of a conversation."""
    return pb.Turn(
        name=f"{conversation_name(conversation)}/turns/{turn.number}",
        collection=collection_name(turn.collection),
        question=turn.question,
        answer=answer_to_pb(turn.answer),
        create_time=time_to_pb(turn.created_at),
    )


def time_to_pb(time: datetime) -> Timestamp:
    """Translate a time with a zone."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
