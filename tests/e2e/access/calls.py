"""Calls of any method by its name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kotaemon_grpc.pb.v1 import agent_pb2 as v1
from kotaemon_grpc.pb.v2 import agent_pb2 as v2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

_ALIASES = {
    "kotaemon.AgentService": v1.DESCRIPTOR.services_by_name["AgentService"],
    "grpc.reflection.v1.ServerReflection": reflection_pb2.DESCRIPTOR.services_by_name[
        "ServerReflection"
    ],
}
METHODS: dict[str, MethodDescriptor] = {
    f"{name}/{method.name}": method
    for name, service in {
        **{
            service.full_name: service
            for module in (v1, v2, reflection_pb2, channelz_pb2)
            for service in module.DESCRIPTOR.services_by_name.values()
        },
        **_ALIASES,
    }.items()
    for method in service.methods
}
"""Every method that can be served and needs a role, by its full name."""


@dataclass(frozen=True)
class Reply:
    """All that came of a call."""

    messages: list[Any]
    failure: Any

    @property
    def code(self) -> str:
        return self.failure.code if self.failure else "OK"

    @property
    def reason(self) -> str:
        info = self.failure.detail("ErrorInfo") if self.failure else None
        return info.reason if info else ""

    @property
    def text(self) -> str:
        """All that was said, to be searched."""
        return "\n".join(str(message) for message in self.messages)


@dataclass(frozen=True)
class _Failed:
    """A call that failed, as `failure_of` takes it."""

    error: Any

    async def read(self) -> Any:
        raise grpc.aio.AioRpcError(
            self.error.code(),
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*(tuple(each) for each in self.error.trailing_metadata() or ())),
            self.error.details(),
        )


async def call_method(
    channel: grpc.Channel,
    path: str,
    requests: list[Message],
    shown: dict[str, str],
    failure_of: Callable[[Any], Awaitable[Any]],
) -> Reply:
    """Call a method to its end. `failure_of` is the fixture; `shown` the metadata."""
    # On the wire all kinds are alike.
    method = channel.stream_stream(
        f"/{path}",
        lambda message: message.SerializeToString(),
        GetMessageClass(METHODS[path].output_type).FromString,
    )
    messages: list[Any] = []

    def run() -> Any:
        try:
            messages.extend(method(iter(requests), metadata=tuple(shown.items()), timeout=60))
        except grpc.RpcError as error:
            return error
        return None

    # Not by grpc.aio: it loses the status of a call that is refused while it still sends.
    error = await asyncio.to_thread(run)
    return Reply(messages, await failure_of(_Failed(error)) if error else None)
