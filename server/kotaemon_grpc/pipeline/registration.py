"""From a service's descriptor and a servicer to a handler that gRPC can serve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from kotaemon_grpc.pipeline.seam import Method
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from kotaemon_grpc.pipeline.seam import Seam


def service_handler(
    seam: Seam,
    service: ServiceDescriptor,
    servicer: object,
    *,
    failure_messages: Mapping[str, Callable[[status_pb2.Status, int], Message]],
    name: str = "",
) -> grpc.GenericRpcHandler:
    """Make the handler of a service.

    Every method of the descriptor must be a method of the servicer, in snake case:
    `AskQuestion` is `ask_question`.

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
    handlers = {
        method.name: _method_handler(
            seam,
            method,
            getattr(servicer, _snake_case(method.name)),
            Method(
                service=full_name,
                name=method.name,
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
                request=GetMessageClass(method.input_type),
                failure_message=failure_messages.get(method.name),
            ),
        )
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(full_name, handlers)


def _method_handler(
    seam: Seam, descriptor: MethodDescriptor, handler: Callable[..., Any], method: Method
) -> grpc.RpcMethodHandler:
    make = {
        names.TYPE_UNARY: grpc.unary_unary_rpc_method_handler,
        names.TYPE_CLIENT_STREAM: grpc.stream_unary_rpc_method_handler,
        names.TYPE_SERVER_STREAM: grpc.unary_stream_rpc_method_handler,
        names.TYPE_BIDI_STREAM: grpc.stream_stream_rpc_method_handler,
    }[method.type]
    response = GetMessageClass(descriptor.output_type)
    # Requests stay bytes: core would answer what it cannot read with the text of an exception.
    return make(seam.wrap(method, handler), response_serializer=response.SerializeToString)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
