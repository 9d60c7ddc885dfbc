"""Whether what was found is about what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.retrieval.analysis import passage_terms
from kotaemon_grpc.retrieval.query import topic_terms

if TYPE_CHECKING:
    from kotaemon_grpc.core.model import Query, Retrieval

MIN_COVERAGE = 0.4
"""Below this share, what was found does not answer the question.

Measured: of answerable questions 2 % (SQuAD), 3 % (CMRC 2018) and 6 % (Cranfield)
fall below it; of questions asked of another domain's documents 83 % to 92 %, of
those in another language 99 %, of made-up words all.
"""

MIN_COVERAGE_OF_FEW = {1: 0.6, 2: 0.6, 3: 0.5}
"""The same for a topic of so many terms: one that is missing is then much of what is asked.

Measured: 0.1 % more of SQuAD's answerable questions fall below it.
"""

LOOKED_AT = 5
"""Answers are sought in so many passages, the best."""


def is_covered(query: Query, retrieval: Retrieval) -> bool:
    """Tell whether what was found is about the query."""
    terms = sum(term in retrieval.idf for term in topic_terms(query))
    return coverage(query, retrieval) >= MIN_COVERAGE_OF_FEW.get(terms, MIN_COVERAGE)


def coverage(query: Query, retrieval: Retrieval) -> float:
    """Return the share of a query's topic that one of the best passages has, 0 to 1.

    A term counts by its inverse document frequency: a rare one that is missing
    weighs more than a common one that is there.
    """
    idf = retrieval.idf
    weights = {t: w * idf[t] for t, w in topic_terms(query).items() if t in idf}
    total = sum(weights.values())
    if not total:
        return 0.0
    return (
        max(
            (
                sum(
                    weights.get(t, 0.0) for t in set(passage_terms(hit.document.title, hit.passage))
                )
                for hit in retrieval.hits[:LOOKED_AT]
            ),
            default=0.0,
        )
        / total
    )
