"""Channelz v1: what gRPC's core knows of its own connections (gRFC A14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

SERVICE_NAME = "grpc.channelz.v1.Channelz"
METHODS = frozenset(
    f"{SERVICE_NAME}/{method.name}"
    for method in channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].methods
)


def handlers() -> dict[str, grpc.RpcMethodHandler]:
    """Make the handlers by method name. They show addresses: not for everybody."""
    registrar = _Registrar()
    channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), registrar)
    return registrar.handlers


class _Registrar:
    """Looks to generated code like a server, and keeps the handlers that it would add."""

    def __init__(self) -> None:
        self.handlers: dict[str, grpc.RpcMethodHandler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do without: the same come by name."""

    def add_registered_method_handlers(
        self, _service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Take them."""
        self.handlers.update(handlers)
