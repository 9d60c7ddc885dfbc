"""What calls return: plain, immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a document: the headings above it, and code points from the start."""

    headings: tuple[str, ...]
    start_offset: int
    end_offset: int


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of an answer.

    Attributes:
        document: its resource name.
        snippet: the cited words.
        spans: the parts of the answer's text that rest on it: start, and end exclusive.
    """

    document: str
    title: str
    uri: str
    location: Location
    snippet: str
    score: float
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took: tokens by the model's own count, None if none was counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        finish_reason: `answered` or `nothing_found`.
        conversation: the resource name of the conversation that keeps it, or empty.
    """

    text: str
    citations: tuple[Citation, ...]
    finish_reason: str
    conversation: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a dialogue.

    Attributes:
        request_id: names it, so that asking it again on another stream does nothing
            twice. Empty: a new one is made.
    """

    text: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A further piece of the text of an answer that is being written."""

    text: str


@dataclass(frozen=True, slots=True)
class CitationAdded:
    """A citation of an answer that is being written."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server is about to stop: what has begun is finished within `grace_s` seconds.

    A dialogue ends after the turn that is running. Further questions belong on a new
    one, which another server takes.
    """

    grace_s: float


AnswerEvent: TypeAlias = TextDelta | CitationAdded | GoingAway | Answer
"""The events of an answer that is being written; the last is the whole `Answer`."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A passage that fits a query."""

    document: str
    title: str
    uri: str
    location: Location
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document, without its content. `state` is `indexing` or `indexed`."""

    name: str
    title: str
    uri: str
    mime_type: str
    size_bytes: int
    sha256: str
    passage_count: int
    state: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import. `outcome` is `created`, `replaced` or `unchanged`."""

    document: Document
    outcome: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue that is kept, without its turns."""

    name: str
    title: str
    turn_count: int
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer. `collection` is what was asked."""

    name: str
    collection: str
    question: str
    answer: Answer
    create_time: datetime


def citation_from_pb(message: pb.Citation) -> Citation:
    """Translate a citation."""
    return Citation(
        document=message.document,
        title=message.title,
        uri=message.uri,
        location=_location_from_pb(message.location),
        snippet=message.snippet,
        score=message.score,
        spans=tuple((span.start_offset, span.end_offset) for span in message.spans),
    )


def answer_from_pb(message: pb.Answer, conversation: str) -> Answer:
    """Translate an answer."""
    usage = message.usage
    return Answer(
        text=message.text,
        citations=tuple(citation_from_pb(citation) for citation in message.citations),
        finish_reason=_word(pb.FinishReason, message.finish_reason, "FINISH_REASON_"),
        conversation=conversation,
        usage=Usage(
            input_tokens=usage.input_tokens if usage.HasField("input_tokens") else None,
            output_tokens=usage.output_tokens if usage.HasField("output_tokens") else None,
            passages=usage.passages,
        ),
    )


def event_from_pb(
    response: pb.StreamAnswerResponse | pb.ChatStreamResponse,
) -> AnswerEvent | None:
    """Translate an event; None for the end of a dialogue, and for one that is not known."""
    match response.WhichOneof("event"):
        case "text_delta":
            return TextDelta(response.text_delta.text)
        case "citation":
            return CitationAdded(citation_from_pb(response.citation))
        case "going_away":
            return GoingAway(response.going_away.grace.ToTimedelta().total_seconds())
        case "turn_completed" if isinstance(response, pb.ChatStreamResponse):
            completed = response.turn_completed
        case "completed" if isinstance(response, pb.StreamAnswerResponse):
            completed = response.completed
        case _:
            return None
    return answer_from_pb(completed.answer, completed.conversation)


def result_from_pb(message: pb.SearchResult) -> SearchResult:
    """Translate a passage that was found."""
    return SearchResult(
        document=message.document,
        title=message.title,
        uri=message.uri,
        location=_location_from_pb(message.location),
        text=message.text,
        score=message.score,
    )


def document_from_pb(message: pb.Document) -> Document:
    """Translate a document."""
    return Document(
        name=message.name,
        title=message.title,
        uri=message.uri,
        mime_type=message.mime_type,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        passage_count=message.passage_count,
        state=_word(pb.IndexingState, message.indexing_state, "INDEXING_STATE_"),
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def imported_from_pb(message: pb.ImportDocumentResponse) -> Imported:
    """Translate what came of an import."""
    return Imported(
        document=document_from_pb(message.document),
        outcome=_word(pb.ImportOutcome, message.outcome, "IMPORT_OUTCOME_"),
    )


def conversation_from_pb(message: pb.Conversation) -> Conversation:
    """Translate a conversation."""
    return Conversation(
        name=message.name,
        title=message.title,
        turn_count=message.turn_count,
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def turn_from_pb(message: pb.Turn, conversation: str) -> Turn:
    """Translate a turn of a conversation."""
    return Turn(
        name=message.name,
        collection=message.collection,
        question=message.question,
        answer=answer_from_pb(message.answer, conversation),
        create_time=message.create_time.ToDatetime(UTC),
    )


def _location_from_pb(message: pb.Location) -> Location:
    return Location(tuple(message.headings), message.start_offset, message.end_offset)


def _word(enum: EnumTypeWrapper, number: int, prefix: str) -> str:
    """Name a number; one that only a newer server knows is given as it is."""
    known = enum.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix(prefix).lower() if known else str(number)
