"""The handlers of a servicer that generated code would add to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc


def handlers_of(
    add: Callable[[object, _Registrar], None], servicer: object
) -> dict[str, grpc.RpcMethodHandler]:
    """Return the handlers by method name.

    Args:
        add: `add_…Servicer_to_server` of the generated code of one service.
        servicer: implements the service.
    """
    registrar = _Registrar()
    add(servicer, registrar)
    return registrar.handlers


class _Registrar:
    """Looks to generated code like a server."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do without: the same come by name."""

    def add_registered_method_handlers(
        self, _service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Take them."""
        self.handlers.update(handlers)
