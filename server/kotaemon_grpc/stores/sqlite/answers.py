"""Answers as JSON, as they are kept in the row of a turn."""

from __future__ import annotations

import json
from typing import Any

from kotaemon_grpc.core.model import (
    Answer,
    Citation,
    DocumentRef,
    FinishReason,
    Location,
    Scope,
    Span,
    Usage,
)

_VERSION = 2
"""Of the form below. Raise it when a field changes its meaning, and go on reading the old ones."""

_TOKENS = ("input_tokens", "output_tokens")
"""Counts of a model. Version 1 wrote 0 where none was used, version 2 writes null."""


def answer_to_json(answer: Answer) -> str:
    """Write an answer."""
    return json.dumps(
        {
            "version": _VERSION,
            "text": answer.text,
            "finish_reason": answer.finish_reason.value,
            "usage": {
                "input_tokens": answer.usage.input_tokens,
                "output_tokens": answer.usage.output_tokens,
                "passages": answer.usage.passages,
            },
            "citations": [_citation_to_plain(citation) for citation in answer.citations],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def answer_from_json(text: str) -> Answer:
    """Read an answer.

    Raises:
        ValueError: it is of a version that this server does not know.
    """
    plain = json.loads(text)
    version, usage = plain["version"], plain["usage"]
    if version not in (1, _VERSION):
        raise ValueError(f"unknown version of a stored answer: {version}")
    if version == 1:
        usage = usage | {key: usage[key] or None for key in _TOKENS}
    return Answer(
        text=plain["text"],
        citations=tuple(_citation_from_plain(citation) for citation in plain["citations"]),
        finish_reason=FinishReason(plain["finish_reason"]),
        usage=Usage(**usage),
    )


def _citation_to_plain(citation: Citation) -> dict[str, Any]:
    document, location = citation.document, citation.location
    return {
        "document": {
            "id": document.id,
            "tenant": document.scope.tenant,
            "collection": document.scope.collection,
            "title": document.title,
            "uri": document.uri,
        },
        "location": {
            "headings": location.headings,
            "start": location.start,
            "end": location.end,
        },
        "snippet": citation.snippet,
        "score": citation.score,
        "spans": [[span.start, span.end] for span in citation.spans],
    }


def _citation_from_plain(plain: dict[str, Any]) -> Citation:
    document, location = plain["document"], plain["location"]
    return Citation(
        document=DocumentRef(
            id=document["id"],
            scope=Scope(document["tenant"], document["collection"]),
            title=document["title"],
            uri=document["uri"],
        ),
        location=Location(tuple(location["headings"]), location["start"], location["end"]),
        snippet=plain["snippet"],
        score=plain["score"],
        spans=tuple(Span(start, end) for start, end in plain["spans"]),
    )
