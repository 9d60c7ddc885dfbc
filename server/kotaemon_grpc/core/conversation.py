"""Dialogues that are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from kotaemon_grpc.core.model import Answer


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer. Turns of a conversation are numbered from 1."""

    number: int
    collection: str
    question: str
    answer: Answer
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A dialogue that is kept, without its turns.

    Args:
        collection: of its first turn, whose question the title may be; empty before.
    """

    id: str
    title: str
    turn_count: int
    created_at: datetime
    updated_at: datetime
    collection: str = ""
