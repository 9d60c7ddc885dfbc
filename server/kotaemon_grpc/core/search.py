"""Find passages without writing an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kotaemon_grpc.core.limits import MAX_SEARCH_RESULTS
from kotaemon_grpc.core.paging import Page
from kotaemon_grpc.core.required import require_collection

if TYPE_CHECKING:
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.model import Hit, Query, Scope
    from kotaemon_grpc.core.paging import PageTokens
    from kotaemon_grpc.core.ports import DocumentStore, Retriever


class Searching:
    """The use case. Keys of the pages it takes and gives are page tokens."""

    def __init__(
        self, *, retriever: Retriever, documents: DocumentStore, tokens: PageTokens
    ) -> None:
        """Take what finds passages, what tells which collections exist, what makes tokens."""
        self._retriever = retriever
        self._documents = documents
        self._tokens = tokens

    async def search(
        self, scope: Scope, query: Query, context: Context, *, token: str = ""
    ) -> Page[Hit]:
        """Find the passages of the scope that fit best, best first.

        Pages end after the first `limits.MAX_SEARCH_RESULTS`.

        Args:
            scope: what is searched.
            query: what is searched for; its limit is the size of the page, and its
                offset is not read.
            context: until when passages are of use.
            token: of the page that is wanted; empty for the first.

        Raises:
            InvalidArgument: the token was not given for this search.
            NotFound: there is no such collection.
        """
        bound_to = (scope.tenant, "search", scope.collection, query.text)
        offset = int(self._tokens.decode(token, *bound_to) or 0)
        await require_collection(self._documents, scope)
        end = min(offset + query.limit, MAX_SEARCH_RESULTS)
        # One more than asked for tells whether there is another page.
        wanted = replace(query, offset=offset, limit=end - offset + 1)
        hits = (await self._retriever.retrieve(scope, wanted, context)).hits
        has_more = len(hits) > end - offset and end < MAX_SEARCH_RESULTS
        next_key = str(end) if has_more else ""
        return Page(hits[: end - offset], self._tokens.encode(next_key, *bound_to))
