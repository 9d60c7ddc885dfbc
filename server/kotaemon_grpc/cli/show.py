"""How answers and documents look on a terminal, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kotaemon_grpc.client import Answer, Citation, Document, Location, SearchResult


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """Make what `ask --json` prints; its keys are stable."""
    return {
        "answer": answer.text,
        "citations": [_citation_to_json(citation) for citation in answer.citations],
        "finish_reason": answer.finish_reason,
        "conversation": answer.conversation,
    }


def result_to_json(result: SearchResult) -> dict[str, Any]:
    """Make what `search --json` prints of a passage."""
    return {
        "document": result.document,
        "title": result.title,
        "uri": result.uri,
        "location": _location_to_json(result.location),
        "text": result.text,
        "score": result.score,
    }


def document_to_json(document: Document) -> dict[str, Any]:
    """Make what `documents --json` prints of a document."""
    return {
        "name": document.name,
        "title": document.title,
        "uri": document.uri,
        "mime_type": document.mime_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "passage_count": document.passage_count,
        "state": document.state,
        "create_time": document.create_time.isoformat(),
        "update_time": document.update_time.isoformat(),
    }


def sources_to_text(answer: Answer) -> str:
    """List the places that an answer rests on, each once."""
    places = dict.fromkeys(
        place_to_text(citation.title, citation.uri, citation.location)
        for citation in answer.citations
    )
    return "\n".join(f"  [{number}] {place}" for number, place in enumerate(places, 1))


def place_to_text(title: str, uri: str, location: Location) -> str:
    """Name a place: title, headings and URI."""
    headings = [heading for heading in location.headings if heading != title]
    return f"{' > '.join([title, *headings])}  <{uri}>"


def _citation_to_json(citation: Citation) -> dict[str, Any]:
    return {
        "document": citation.document,
        "title": citation.title,
        "uri": citation.uri,
        "location": _location_to_json(citation.location),
        "snippet": citation.snippet,
        "score": citation.score,
    }


def _location_to_json(location: Location) -> dict[str, Any]:
    return {
        "headings": list(location.headings),
        "start_offset": location.start_offset,
        "end_offset": location.end_offset,
    }
