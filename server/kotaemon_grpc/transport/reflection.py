"""Server reflection, v1alpha and v1, with the services that are served under a second name.

The two versions have the same messages (grpc/proto, reflection/v1): the same
servicer answers both. A service that is served under another package as well is
described by a copy of its file with the other package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.protobuf.descriptor import FileDescriptor

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
METHOD = "ServerReflectionInfo"


def handlers(
    service_names: Iterable[str], aliases: Mapping[str, str] | None = None
) -> dict[str, dict[str, grpc.RpcMethodHandler]]:
    """Make the handlers of both reflection services, by service and method.

    Args:
        service_names: the full names of the services to list, aliases included;
            the reflection services themselves are added.
        aliases: for each service that is served under a second name, that name and
            the name it is generated under, as `{"kotaemon.AgentService":
            "kotaemon.v1.AgentService"}`. Both stand in the same kind of file and
            differ in their package alone.

    Raises:
        KeyError: no generated code of a service is loaded.
    """
    copies = {**(aliases or {}), V1: V1ALPHA}
    names = {*service_names, V1, V1ALPHA}
    servicer = reflection.aio.ReflectionServicer(names, pool=_pool(names, copies))
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return {name: {METHOD: method} for name in (V1ALPHA, V1)}


class _Pool:
    """A descriptor pool that finds methods by name too; the library's own finds all but them."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - a pool's name for it
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service = self._pool.FindServiceByName(symbol.rpartition(".")[0])
            if symbol.rpartition(".")[2] not in service.methods_by_name:
                raise
            return service.file


def _pool(names: Iterable[str], copies: Mapping[str, str]) -> _Pool:
    """Gather the files of the services and no others: a caller sees what is served."""
    generated = descriptor_pool.Default()
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()
    # What errors carry is in no file of a service, but a client has to read it.
    _add(pool, error_details_pb2.DESCRIPTOR, added)
    for name in sorted(names):
        file = generated.FindFileContainingSymbol(copies.get(name, name))
        _add(pool, file, added)
        if name in copies:
            copy = _copy(file, package=name.rpartition(".")[0])
            if copy.name not in added:
                pool.Add(copy)
                added.add(copy.name)
    return _Pool(pool)


def _add(pool: descriptor_pool.DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add(pool, dependency, added)
    pool.AddSerializedFile(file.serialized_pb)


def _copy(file: FileDescriptor, *, package: str) -> descriptor_pb2.FileDescriptorProto:
    """Copy a file into another package, and into the folder of that name."""
    proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
    old, new = f".{proto.package}.", f".{package}."
    proto.name = f"{package.replace('.', '/')}/{proto.name.rpartition('/')[2]}"
    proto.package = package
    for message in proto.message_type:
        _move_message(message, old, new)
    for service in proto.service:
        for method in service.method:
            method.input_type = _moved(method.input_type, old, new)
            method.output_type = _moved(method.output_type, old, new)
    return proto


def _move_message(message: descriptor_pb2.DescriptorProto, old: str, new: str) -> None:
    for field in message.field:
        if field.type_name:  # to set it on a scalar, even to nothing, is an error
            field.type_name = _moved(field.type_name, old, new)
    for nested in message.nested_type:
        _move_message(nested, old, new)


def _moved(type_name: str, old: str, new: str) -> str:
    return new + type_name.removeprefix(old) if type_name.startswith(old) else type_name
