"""The names of resources (AIP-122), as v2 shows them and as errors name them."""

from __future__ import annotations


def collection_name(collection: str) -> str:
    """Return the resource name of a collection."""
    return f"collections/{collection}"


def document_name(collection: str, document: str) -> str:
    """Return the resource name of a document."""
    return f"{collection_name(collection)}/documents/{document}"


def conversation_name(conversation: str) -> str:
    """Return the resource name of a conversation, empty for an empty id."""
    return f"conversations/{conversation}" if conversation else ""
