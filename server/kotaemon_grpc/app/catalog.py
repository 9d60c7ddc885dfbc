"""The services that are served, and the full names of their methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.api import v1
from kotaemon_grpc.api.v2 import agent, conversation, document, retrieval
from kotaemon_grpc.transport import channelz, reflection

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

DESCRIPTORS: dict[str, ServiceDescriptor] = {
    v1.SERVICE.full_name: v1.SERVICE,
    v1.UNVERSIONED_NAME: v1.SERVICE,
    **{
        module.SERVICE.full_name: module.SERVICE
        for module in (agent, conversation, document, retrieval)
    },
}
"""By the full names under which they are served: of these the backend makes its services."""


def methods() -> frozenset[str]:
    """Return the full name of every method that needs a role, as `package.Service/Method`.

    Health checking is not among them: it is open.
    """
    ours = {
        f"{name}/{method.name}"
        for name, descriptor in DESCRIPTORS.items()
        for method in descriptor.methods
    }
    reflected = {f"{name}/{reflection.METHOD}" for name in (reflection.V1ALPHA, reflection.V1)}
    return frozenset(ours | reflected | channelz.METHODS)
