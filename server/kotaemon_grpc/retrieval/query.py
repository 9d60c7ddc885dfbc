"""A query as weighted terms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kotaemon_grpc.retrieval.analysis import terms
from kotaemon_grpc.retrieval.function_words import content_terms

if TYPE_CHECKING:
    from kotaemon_grpc.core.model import Query

FUNCTION_WEIGHT = 0.3
"""What a function or question word weighs. Dropping them, or a full 1, finds less."""

FOLLOW_UP_WEIGHT = 0.8
"""What the latest earlier question weighs if the text cannot stand without it."""

HISTORY_WEIGHT = 0.3
"""What it weighs otherwise: the topic may have changed."""

HISTORY_DECAY = 0.5
"""By what each earlier question weighs less than the one after it."""

MAX_HISTORY = 3
"""Earlier questions beyond these weigh too little to matter."""

_REFERS_BACK = re.compile(
    r"\b(?:it|its|itself|he|him|his|she|her|hers|they|them|their|theirs"
    r"|this|that|these|those|there|one|ones)\b"
    r"|[它他她其此該该]|[这這](?![么麼])|那[个個座里裡些儿兒时時]",
    re.IGNORECASE,
)


def weighted_terms(query: Query) -> dict[str, float]:
    """Return each term of a query with its weight, above 0 and at most 1.

    Of earlier questions only the terms that carry their topic count, and only
    if the text does not have them.
    """
    weights = dict.fromkeys(terms(query.text), FUNCTION_WEIGHT)
    weights.update(dict.fromkeys(content_terms(query.text), 1.0))
    weight = FOLLOW_UP_WEIGHT if _is_follow_up(query.text) else HISTORY_WEIGHT
    for earlier in query.history[:MAX_HISTORY]:
        for term in content_terms(earlier):
            weights.setdefault(term, weight)
        weight *= HISTORY_DECAY
    return weights


def topic_terms(query: Query) -> dict[str, float]:
    """Return the terms that a passage must have to answer a query, with weights.

    They are those that carry the topic of the text. Earlier questions count only
    for a text that refers back to them, so that a new topic is judged alone.
    Empty if the query has no topic.
    """
    topic = dict.fromkeys(content_terms(query.text), 1.0)
    if _is_follow_up(query.text):
        weight = FOLLOW_UP_WEIGHT
        for earlier in query.history[:MAX_HISTORY]:
            added = content_terms(earlier)
            for term in added:
                topic.setdefault(term, weight)
            if added and not _is_follow_up(earlier):
                break  # what is referred to is named here
            weight *= HISTORY_DECAY
    return topic


def _is_follow_up(text: str) -> bool:
    return _REFERS_BACK.search(text) is not None or not content_terms(text)
