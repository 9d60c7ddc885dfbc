"""Outcomes of requests, as they are kept: a kind, and JSON.

An answer that a conversation keeps is not kept twice: its outcome says where it is, so
that it goes with the conversation.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from kotaemon_grpc.core.conversation import Conversation
from kotaemon_grpc.core.model import Document, ImportOutcome, IndexingState, Scope
from kotaemon_grpc.core.once import Answered, Deleted, Stored
from kotaemon_grpc.stores.sqlite.answers import answer_from_json, answer_to_json
from kotaemon_grpc.stores.sqlite.connection import time_from_us, time_to_us

if TYPE_CHECKING:
    from kotaemon_grpc.core.once import Outcome

TURN: Final = "turn"
DOCUMENT: Final = "document"
_ANSWER: Final = "answer"
_CONVERSATION: Final = "conversation"
_DELETED: Final = "deleted"


def outcome_to_row(outcome: Outcome) -> tuple[str, str]:
    """Return the kind and the JSON of an outcome."""
    match outcome:
        case Answered():
            return _ANSWER, answer_to_json(outcome.answer)
        case Conversation():
            return _CONVERSATION, _dumped(_conversation_to_plain(outcome))
        case Stored():
            return stored_to_row(outcome, 0)
        case Deleted():
            return _DELETED, _dumped(None)


def outcome_from_row(kind: str, text: str) -> Outcome:
    """Read an outcome of any kind but those of which more is to be read.

    Raises:
        ValueError: it is of a kind that this server does not know.
    """
    if kind == _ANSWER:
        return Answered(answer_from_json(text))
    if kind == _CONVERSATION:
        return _conversation_from_plain(json.loads(text))
    if kind == _DELETED:
        return Deleted()
    raise ValueError(f"unknown kind of an outcome: {kind}")


def turn_to_row(conversation: str, number: int, created_us: int) -> tuple[str, str]:
    """Return the kind and the JSON of an answer that is kept as a turn."""
    return TURN, _dumped([conversation, number, created_us])


def turn_from_row(text: str) -> tuple[str, int, int]:
    """Read which turn it is: its conversation, its number, and when it was added."""
    conversation, number, created_us = json.loads(text)
    return conversation, number, created_us


def stored_to_row(stored: Stored, seq: int) -> tuple[str, str]:
    """Return the kind and the JSON of a document, with the number of its change; 0 if none."""
    plain = _document_to_plain(stored.document)
    return DOCUMENT, _dumped({"document": plain, "outcome": stored.outcome.value, "seq": seq})


def stored_from_row(text: str, tenant: str) -> tuple[Stored, int]:
    """Read a document as it is once it is indexed, and the number of its change."""
    plain = json.loads(text)
    document = _document_from_plain(plain["document"], tenant)
    return Stored(document, ImportOutcome(plain["outcome"])), plain["seq"]


def _dumped(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _conversation_to_plain(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "title": conversation.title,
        "turn_count": conversation.turn_count,
        "created_at": time_to_us(conversation.created_at),
        "updated_at": time_to_us(conversation.updated_at),
        "collection": conversation.collection,
    }


def _conversation_from_plain(plain: dict[str, Any]) -> Conversation:
    created_at, updated_at = (time_from_us(plain[key]) for key in ("created_at", "updated_at"))
    return Conversation(**(plain | {"created_at": created_at, "updated_at": updated_at}))


def _document_to_plain(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "collection": document.scope.collection,
        "title": document.title,
        "uri": document.uri,
        "mime_type": document.mime_type,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "passage_count": document.passage_count,
        "created_at": time_to_us(document.created_at),
        "updated_at": time_to_us(document.updated_at),
    }


def _document_from_plain(plain: dict[str, Any], tenant: str) -> Document:
    return Document(
        id=plain["id"],
        scope=Scope(tenant, plain["collection"]),
        title=plain["title"],
        uri=plain["uri"],
        mime_type=plain["mime_type"],
        size_bytes=plain["size_bytes"],
        sha256=plain["sha256"],
        passage_count=plain["passage_count"],
        indexing_state=IndexingState.INDEXED,
        created_at=time_from_us(plain["created_at"]),
        updated_at=time_from_us(plain["updated_at"]),
    )
