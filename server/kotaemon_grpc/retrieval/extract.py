"""The sentences that answer a question, out of the passages that were found.

A sentence's score is the sum of what it shares with the query (BM25 without a
length norm: a longer sentence says more), the score of its passage, and whether
it holds the number or date that is asked for. The weights were chosen on SQuAD
and CMRC 2018 together.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import Location
from kotaemon_grpc.retrieval.analysis import terms
from kotaemon_grpc.retrieval.coverage import LOOKED_AT, is_covered
from kotaemon_grpc.retrieval.folding import fold
from kotaemon_grpc.retrieval.quantities import asks_for_quantity, has_quantity
from kotaemon_grpc.retrieval.query import weighted_terms
from kotaemon_grpc.retrieval.sentences import Kind, sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kotaemon_grpc.core.model import Hit, Query, Retrieval

MAX_SENTENCES = 3
SATURATION = 0.6  # BM25's k1
ADJACENT = 0.4  # for two terms of the query that stand side by side
PASSAGE = 1.5  # for the score of the passage, of the best one's
QUANTITY = 0.3
NEW = 0.2  # for terms that no chosen sentence has
PENALTIES = {Kind.PROSE: 0.0, Kind.TABLE: 0.1, Kind.CODE: 1.0, Kind.HEADING: 1.5}
QUESTION_PENALTY = 0.3  # a question is no answer
FRAGMENT_PENALTY = 0.5  # nor is a title in plain text
_QUESTION = re.compile(r"[?？]\W*\Z")  # noqa: RUF001 - the Chinese question mark
_FRAGMENT = re.compile(r".{0,40}\w\Z")


@dataclass(frozen=True, slots=True)
class Extract:
    """A sentence of an answer.

    Args:
        text: the sentence, on one line.
        hit: the passage it stands in.
        location: of the sentence in the document.
    """

    text: str
    hit: Hit
    location: Location


@dataclass(slots=True)
class _Candidate:
    extract: Extract
    rank: int
    kind: Kind
    found: frozenset[str]
    score: float

    @property
    def is_whole_sentence(self) -> bool:
        """Whether it says something on its own: no row of a table, no lead-in to a list."""
        return self.kind is Kind.PROSE and not self.extract.text.endswith((":", "："))  # noqa: RUF001 - the Chinese colon


def extracts(query: Query, retrieval: Retrieval) -> list[Extract]:
    """Choose up to three sentences that answer a query.

    The best comes first, the others follow in the order of their passages and
    documents. A sentence that several documents have is taken once.

    Returns:
        The sentences, or none if nothing that was found is about the query.
    """
    hits = retrieval.hits[:LOOKED_AT]
    if not hits or not is_covered(query, retrieval):
        return []
    weights = {t: w * retrieval.idf.get(t, 0.0) for t, w in weighted_terms(query).items()}
    candidates = _scored(query, hits, weights)
    chosen = _choose(candidates, weights)
    rest = sorted(chosen[1:], key=lambda c: (c.rank, c.extract.location.start))
    return [c.extract for c in (*chosen[:1], *rest)]


def _scored(query: Query, hits: tuple[Hit, ...], weights: Mapping[str, float]) -> list[_Candidate]:
    pairs = frozenset(pairwise(terms(query.text)))
    wants_quantity = asks_for_quantity(query.text)
    candidates: dict[str, _Candidate] = {}
    for rank, hit in enumerate(hits):
        place = hit.passage.location
        for sentence in sentences(hit.passage.text):
            verbatim = hit.passage.text[sentence.start : sentence.end]
            text = fold(verbatim)
            if text in candidates:
                continue
            found = terms(verbatim)
            location = Location(
                place.headings, place.start + sentence.start, place.start + sentence.end
            )
            candidates[text] = _Candidate(
                Extract(text, hit, location),
                rank,
                sentence.kind,
                frozenset(found),
                _shared(found, weights, pairs),
            )
    most = max((c.score for c in candidates.values()), default=0.0) or 1.0
    for candidate in candidates.values():
        text = candidate.extract.text
        candidate.score /= most
        candidate.score += PASSAGE * candidate.extract.hit.score / hits[0].score
        candidate.score += QUANTITY * (wants_quantity and has_quantity(text))
        candidate.score -= PENALTIES[candidate.kind]
        candidate.score -= _form_penalty(text)
    return list(candidates.values())


def _form_penalty(text: str) -> float:
    if _QUESTION.search(text):
        return QUESTION_PENALTY
    return FRAGMENT_PENALTY if _FRAGMENT.match(text) else 0.0


def _shared(
    found: list[str], weights: Mapping[str, float], pairs: Iterable[tuple[str, str]]
) -> float:
    """Score what a sentence shares with a query."""
    counts = Counter(t for t in found if t in weights)
    score = sum(weights[t] * n * (1 + SATURATION) / (n + SATURATION) for t, n in counts.items())
    adjacent = frozenset(pairwise(found)).intersection(pairs)
    return score + ADJACENT * sum(min(weights[a], weights[b]) for a, b in adjacent)


def _choose(candidates: list[_Candidate], weights: Mapping[str, float]) -> list[_Candidate]:
    """Take the best sentence, then those that add most to what is taken."""
    total = sum(weights.values()) or 1.0
    left = dict(weights)
    chosen: list[_Candidate] = []
    while candidates and len(chosen) < MAX_SENTENCES:
        best = max(
            candidates,
            key=lambda c: c.score + NEW * sum(left.get(t, 0.0) for t in c.found) / total,
        )
        chosen.append(best)
        # What is added must be a sentence in its own right.
        candidates = [c for c in candidates if c is not best and c.is_whole_sentence]
        for term in best.found:
            left.pop(term, None)
    return chosen
