"""The values of the domain. All are immutable.

Text offsets everywhere count Unicode code points from the start of the
document's text, the end exclusive.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.core.limits import DEFAULT_SEARCH_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DEFAULT_COLLECTION = "default"
DEFAULT_TENANT = "default"

RESOURCE_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
"""What the id of a collection, document, conversation or tenant looks like."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a call may see: one collection of one tenant."""

    tenant: str
    collection: str = DEFAULT_COLLECTION


# --- documents ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a document.

    Args:
        headings: the headings above it, outermost first.
        start: where it starts.
        end: where it ends, exclusive; at least `start`.
    """

    headings: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is found as one. `text` is the document's own, verbatim."""

    text: str
    location: Location


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A document as text, cut into passages that are in order and do not overlap.

    Args:
        title: the first heading, or empty.
        passages: at least one.
    """

    title: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class DocumentDraft:
    """A document that is ready to be stored.

    Args:
        id: matches `RESOURCE_ID`.
        mime_type: `text/markdown` or `text/plain`.
        size_bytes: the size of the content it was parsed from.
        sha256: of that content, 64 lower-case hexadecimal digits.
    """

    id: str
    title: str
    uri: str
    mime_type: str
    size_bytes: int
    sha256: str
    passages: tuple[Passage, ...] = field(repr=False)


class IndexingState(enum.Enum):
    """Whether questions find a document."""

    INDEXING = "indexing"
    INDEXED = "indexed"


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document, without its content."""

    id: str
    scope: Scope
    title: str
    uri: str
    mime_type: str
    size_bytes: int
    sha256: str
    passage_count: int
    indexing_state: IndexingState
    created_at: datetime
    updated_at: datetime


class ImportOutcome(enum.Enum):
    """What storing a document did."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


# --- retrieval ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DocumentRef:
    """What a citation says of its document."""

    id: str
    scope: Scope
    title: str
    uri: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that fits a query. `score` is above 0 and comparable within one retrieval."""

    document: DocumentRef
    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Query:
    """What to retrieve.

    Args:
        text: what is asked now.
        history: what was asked before, latest first; it supports `text` with less weight.
        limit: at most so many hits, above 0.
        offset: how many of the best passages are passed over, at least 0.
    """

    text: str
    history: tuple[str, ...] = ()
    limit: int = DEFAULT_SEARCH_PAGE_SIZE
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What was found, best first.

    Args:
        hits: the passages.
        idf: for each analysed term of the query and its history, its inverse
            document frequency in the scope (natural logarithm, above 0; the
            rarer the term, the higher, highest for a term that no passage has).
    """

    hits: tuple[Hit, ...]
    idf: Mapping[str, float]


# --- questions and answers ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """A valid question.

    Args:
        text: 1 to `limits.MAX_QUESTION_CHARS` characters, not all white space.
        language: a BCP 47 tag, or empty for the language of `text`.
        context: what the caller passes to the engine.
    """

    text: str
    scope: Scope
    language: str = ""
    context: Mapping[str, str] = field(default_factory=dict)


class FinishReason(enum.Enum):
    """Why an answer ends where it ends."""

    ANSWERED = "answered"
    NOTHING_FOUND = "nothing_found"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took.

    Args:
        input_tokens: what a model read, by its own count; None if that is not known,
            or no model was used.
        output_tokens: what a model wrote, likewise.
        passages: how many were looked at.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    passages: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """A part of an answer's text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of an answer.

    Args:
        location: of the cited words, inside the passage they were found in.
        snippet: the cited words, verbatim but that white space is folded.
        score: how well their passage fits; comparable within one answer.
        spans: the parts of the answer's text that rest on it.
    """

    document: DocumentRef
    location: Location
    snippet: str
    score: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    text: str
    citations: tuple[Citation, ...]
    finish_reason: FinishReason
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A further piece of an answer's text; never empty."""

    text: str


@dataclass(frozen=True, slots=True)
class CitationAdded:
    """A citation of the answer so far."""

    citation: Citation


@dataclass(frozen=True, slots=True)
class AnswerCompleted:
    """The end of an answer; `conversation` is the id that keeps it, or empty."""

    answer: Answer
    conversation: str = ""


AnswerEvent: TypeAlias = TextDelta | CitationAdded | AnswerCompleted
"""The events of an answer: any number of the first two, then one `AnswerCompleted`."""
