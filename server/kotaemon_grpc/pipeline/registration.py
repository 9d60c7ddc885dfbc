"""From a service's descriptor and a servicer to handlers that gRPC can serve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from kotaemon_grpc.pipeline.call import Method

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from google.protobuf.descriptor import ServiceDescriptor
    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.pipeline.call import Call
    from kotaemon_grpc.pipeline.seam import Seam, Send


def service_handlers(
    seam: Seam,
    service: ServiceDescriptor,
    servicer: object,
    *,
    failure_messages: Mapping[str, Callable[[status_pb2.Status, int], Message]],
    name: str = "",
) -> dict[Method, grpc.RpcMethodHandler]:
    """Make the handlers of a service.

    Every method of the descriptor must be a method of the servicer, in snake case:
    `AskQuestion` is `ask_question`. It takes a request, or an iterator of them, and
    the `Context`; it returns a response, or is a generator of them; it knows nothing
    of gRPC and raises errors of the domain.

    Args:
        seam: wraps each method.
        service: which methods there are, of which kind, with which messages.
        servicer: the methods.
        failure_messages: by method name, what makes the terminal event of its stream.
        name: another full name for the service; the messages' own do not cross the wire.

    Raises:
        AttributeError: the servicer lacks a method.
    """
    full_name = name or service.full_name
    handlers = {}
    for descriptor in service.methods:
        method = Method(
            service=full_name,
            name=descriptor.name,
            client_streaming=descriptor.client_streaming,
            server_streaming=descriptor.server_streaming,
            request=descriptor.input_type.full_name,
            read=GetMessageClass(descriptor.input_type).FromString,
            write=GetMessageClass(descriptor.output_type).SerializeToString,
            failure_message=failure_messages.get(descriptor.name),
        )
        handler = getattr(servicer, _snake_case(descriptor.name))
        handlers[method] = rpc_handler(
            method,
            seam.stream(method, _generating(handler))
            if method.server_streaming
            else seam.unary(method, _returning(handler)),
        )
    return handlers


def rpc_handler(method: Method, serve: Callable[..., Any]) -> grpc.RpcMethodHandler:
    """Make what core calls. Messages stay bytes on both sides.

    Core would answer what it cannot read with the text of an exception. And it would
    wait for the message of a client that sends just one before it calls us, without an
    end: whoever sends none would hold a stream that no limit of ours knows of. On the
    wire a client that streams and one that does not are the same.
    """
    if method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(serve)
    return grpc.stream_unary_rpc_method_handler(serve)


def _returning(
    handler: Callable[[Any, Context], Awaitable[Message]],
) -> Callable[[Any, Call], Awaitable[Message]]:
    return lambda request, call: handler(request, call.context)


def _generating(
    handler: Callable[[Any, Context], AsyncGenerator[Message, None]],
) -> Callable[[Any, Call, Send], AsyncGenerator[Message, None]]:
    return lambda request, call, _send: handler(request, call.context)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
