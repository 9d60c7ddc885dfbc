"""Find passages without writing an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import NotFound, ResourceType
from kotaemon_grpc.core.names import collection_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kotaemon_grpc.core.model import Hit, Query, Scope
    from kotaemon_grpc.core.ports import DocumentStore, Retriever


class Searching:
    """The use case."""

    def __init__(self, *, retriever: Retriever, documents: DocumentStore) -> None:
        """Take what finds passages and what tells which collections exist."""
        self._retriever = retriever
        self._documents = documents

    async def search(self, scope: Scope, query: Query) -> Sequence[Hit]:
        """Find the passages of the scope that fit best, best first.

        Raises:
            NotFound: there is no such collection.
        """
        if not await self._documents.collection_exists(scope):
            raise NotFound(ResourceType.COLLECTION, collection_name(scope.collection))
        return (await self._retriever.retrieve(scope, query)).hits
