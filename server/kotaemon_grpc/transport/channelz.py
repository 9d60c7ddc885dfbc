"""Channelz v1: what gRPC's core knows of its own connections (gRFC A14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpc_channelz.v1 import channelz, channelz_pb2, channelz_pb2_grpc

from kotaemon_grpc.transport.generated import handlers_of

if TYPE_CHECKING:
    import grpc

SERVICE_NAME = "grpc.channelz.v1.Channelz"
METHODS = frozenset(
    f"{SERVICE_NAME}/{method.name}"
    for method in channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].methods
)


def handlers() -> dict[str, grpc.RpcMethodHandler]:
    """Make the handlers by method name. They show addresses: not for everybody."""
    return handlers_of(
        channelz_pb2_grpc.add_ChannelzServicer_to_server, channelz.aio.ChannelzServicer()
    )
