"""How answers and documents look on a terminal, and as JSON."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kotaemon_grpc.client import Answer, Document, Location

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """Make what `ask --json` prints; its keys are stable."""
    citations = [asdict(citation) for citation in answer.citations]
    for citation in citations:
        del citation["spans"]
    return {
        "answer": answer.text,
        "citations": citations,
        "finish_reason": answer.finish_reason,
        "conversation": answer.conversation,
    }


def document_to_json(document: Document) -> dict[str, Any]:
    """Make what `documents --json` prints of a document."""
    times = {key: getattr(document, key).isoformat() for key in ("create_time", "update_time")}
    return {**asdict(document), **times}


def sources_to_text(answer: Answer) -> str:
    """List the places that an answer rests on, each once."""
    places = dict.fromkeys(
        place_to_text(citation.title, citation.uri, citation.location)
        for citation in answer.citations
    )
    return "\n".join(f"  [{number}] {place}" for number, place in enumerate(places, 1))


def printable(text: str) -> str:
    """Escape what a terminal would take for a command: controls but tab and line feed."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def place_to_text(title: str, uri: str, location: Location) -> str:
    """Name a place: title, headings and URI."""
    headings = [heading for heading in location.headings if heading != title]
    return printable(f"{' > '.join([title, *headings])}  <{uri}>")
