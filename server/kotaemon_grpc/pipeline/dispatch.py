"""Finds the handler of a call, among those of all services at once."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kotaemon_grpc.pipeline.call import Method

    Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

METADATA: ContextVar[Metadata] = ContextVar("kotaemon_grpc_metadata")
"""The metadata of the call that the running task serves.

Core reads it from the wire to find the handler, and once more for whoever asks the
handler's context, which takes as long as half of the guards. What is found here is
what it read first: the handler runs in the same task.
"""


class Dispatcher(grpc.GenericRpcHandler):  # type: ignore[misc] # untyped
    """All methods that a server has, but those that generated code adds itself."""

    def __init__(self, handlers: Mapping[Method, grpc.RpcMethodHandler]) -> None:
        """Take the handlers."""
        self._handlers = {f"/{method.path}": each for method, each in handlers.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Return the handler of a call; None if there is no such method."""
        handler = self._handlers.get(details.method)
        if handler is not None:
            METADATA.set(details.invocation_metadata)
        return handler
