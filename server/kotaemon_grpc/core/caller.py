"""Who calls, and what it may see."""

from __future__ import annotations

from dataclasses import dataclass

from kotaemon_grpc.core.errors import PermissionDenied
from kotaemon_grpc.core.model import DEFAULT_COLLECTION, DEFAULT_TENANT, Scope
from kotaemon_grpc.core.names import collection_name
from kotaemon_grpc.core.patterns import matches


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, verified, and what of its tenant it may see in this call.

    Args:
        principal: its name.
        tenant: whose documents and conversations it may see; matches `RESOURCE_ID`.
        collections: patterns of the collections among them, in which `*` stands for
            any characters.
    """

    principal: str
    tenant: str = DEFAULT_TENANT
    collections: tuple[str, ...] = ("*",)

    def scope(self, collection: str = DEFAULT_COLLECTION) -> Scope:
        """Return the scope of a collection: the only way of a request to one.

        Raises:
            PermissionDenied: the caller may not see it, whether it exists or not.
        """
        if "*" not in self.collections and not self.may_see(collection):
            raise PermissionDenied("", collection_name(collection))
        return Scope(self.tenant, collection)

    def may_see(self, collection: str) -> bool:
        """Tell whether the caller may see a collection of its tenant."""
        return any(matches(collection, pattern) for pattern in self.collections)
