"""What calls return: plain, immutable values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from kotaemon_grpc.client.errors import error_from_status
from kotaemon_grpc.pb.v2 import agent_pb2 as pb


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


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A further piece of the text of an answer that is being written."""

    text: str


@dataclass(frozen=True, slots=True)
class CitationAdded:
    """A citation of an answer that is being written."""

    citation: Citation


AnswerEvent: TypeAlias = TextDelta | CitationAdded | Answer
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
    return Answer(
        text=message.text,
        citations=tuple(citation_from_pb(citation) for citation in message.citations),
        finish_reason=_word(pb.FinishReason.Name(message.finish_reason), "FINISH_REASON_"),
        conversation=conversation,
    )


def event_from_pb(
    response: pb.StreamAnswerResponse | pb.ChatStreamResponse,
) -> AnswerEvent | None:
    """Translate an event; None for the end of a dialogue.

    Raises:
        CallError: the event says that the stream failed. The call ends with the same
            status, but its trailers may be lost on the way.
    """
    match response.WhichOneof("event"):
        case "text_delta":
            return TextDelta(response.text_delta.text)
        case "citation":
            return CitationAdded(citation_from_pb(response.citation))
        case "turn_completed" if isinstance(response, pb.ChatStreamResponse):
            completed = response.turn_completed
        case "completed" if isinstance(response, pb.StreamAnswerResponse):
            completed = response.completed
        case "failed":
            raise error_from_status(response.failed)
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
        state=_word(pb.IndexingState.Name(message.indexing_state), "INDEXING_STATE_"),
        create_time=message.create_time.ToDatetime(UTC),
        update_time=message.update_time.ToDatetime(UTC),
    )


def imported_from_pb(message: pb.ImportDocumentResponse) -> Imported:
    """Translate what came of an import."""
    return Imported(
        document=document_from_pb(message.document),
        outcome=_word(pb.ImportOutcome.Name(message.outcome), "IMPORT_OUTCOME_"),
    )


def _location_from_pb(message: pb.Location) -> Location:
    return Location(tuple(message.headings), message.start_offset, message.end_offset)


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
