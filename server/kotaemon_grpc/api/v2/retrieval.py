"""kotaemon.v2.RetrievalService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.to_pb import hit_to_pb
from kotaemon_grpc.core.checks import Checks
from kotaemon_grpc.core.limits import DEFAULT_SEARCH_PAGE_SIZE, MAX_SEARCH_PAGE_SIZE
from kotaemon_grpc.core.model import Query
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.search import Searching

SERVICE = pb.DESCRIPTOR.services_by_name["RetrievalService"]


class RetrievalService:
    """Implements `kotaemon.v2.RetrievalService`."""

    def __init__(self, searching: Searching) -> None:
        """Take the use case."""
        self._searching = searching

    async def search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Find passages."""
        checks = Checks()
        collection = checks.collection("collection", request.collection)
        query = Query(
            text=checks.question("query", request.query),
            limit=checks.page_size(
                "page_size",
                request.page_size,
                most=MAX_SEARCH_PAGE_SIZE,
                default=DEFAULT_SEARCH_PAGE_SIZE,
            ),
        )
        checks.done()
        scope = context.caller.scope(collection)
        page = await self._searching.search(scope, query, context, token=request.page_token)
        return pb.SearchResponse(
            results=[hit_to_pb(hit) for hit in page.items], next_page_token=page.next_key
        )
