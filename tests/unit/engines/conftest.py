from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.model import DocumentRef, Hit, Retrieval
from kotaemon_grpc.documents.parser import parse_text
from kotaemon_grpc.retrieval.analysis import passage_terms
from kotaemon_grpc.retrieval.query import weighted_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.model import Passage, Query, Scope


@dataclass
class MemoryRetriever:
    """Ranks Markdown documents in memory by the idf of shared terms; keeps what it was asked."""

    documents: dict[str, str]
    queries: list[Query] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)

    async def retrieve(self, scope: Scope, query: Query, context: Context) -> Retrieval:
        self.queries.append(query)
        self.contexts.append(context)
        found: list[tuple[DocumentRef, Passage, set[str]]] = []
        for name, text in self.documents.items():
            parsed = parse_text(text, "text/markdown")
            document = DocumentRef(name, scope, parsed.title, f"test:{name}")
            found += [(document, p, set(passage_terms(parsed.title, p))) for p in parsed.passages]
        weights = weighted_terms(query)
        holding = {t: sum(t in held for _, _, held in found) for t in weights}
        idf = {t: math.log(1 + (len(found) - n + 0.5) / (n + 0.5)) for t, n in holding.items()}
        hits = [
            Hit(document, passage, score)
            for document, passage, held in found
            if (score := sum(w * idf[t] for t, w in weights.items() if t in held)) > 0
        ]
        hits.sort(key=lambda hit: -hit.score)
        return Retrieval(tuple(hits[: query.limit]), idf)


@pytest.fixture
def memory_retriever() -> Callable[[dict[str, str]], MemoryRetriever]:
    return MemoryRetriever
