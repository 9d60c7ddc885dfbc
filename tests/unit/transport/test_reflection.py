from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2

from kotaemon_grpc.pb.v1 import agent_pb2
from kotaemon_grpc.pb.v2 import agent_pb2 as agent_v2_pb2
from kotaemon_grpc.transport import reflection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVICES = [
    "kotaemon.AgentService",
    "kotaemon.v1.AgentService",
    "kotaemon.v2.AgentService",
    "grpc.health.v1.Health",
]
BOTH = pytest.mark.parametrize("service", [reflection.V1ALPHA, reflection.V1])


@pytest.fixture
def ask(serve: Callable[..., Any], connect: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Ask one reflection service one thing, as a client with generated code would."""
    assert agent_v2_pb2  # its services are loaded

    async def call(service: str, **request: str) -> reflection_pb2.ServerReflectionResponse:
        handlers = reflection.handlers(
            SERVICES, {"kotaemon.AgentService": "kotaemon.v1.AgentService"}
        )
        by_path = {
            f"/{name}/{method}": handler
            for name, methods in handlers.items()
            for method, handler in methods.items()
        }
        async with serve(by_path) as (address, _), connect(address) as channel:
            stream = channel.stream_stream(
                f"/{service}/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )(timeout=10)
            await stream.write(reflection_pb2.ServerReflectionRequest(**request))
            await stream.done_writing()
            return await stream.read()

    return call


def _pool(reply: reflection_pb2.ServerReflectionResponse) -> descriptor_pool.DescriptorPool:
    """Build what was told into a pool of its own, dependencies first, as a client does."""
    told = map(
        descriptor_pb2.FileDescriptorProto.FromString,
        reply.file_descriptor_response.file_descriptor_proto,
    )
    files = {file.name: file for file in told}
    pool = descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        file = files.pop(name, None)
        if file is not None:
            for dependency in file.dependency:
                add(dependency)
            pool.Add(file)

    for name in list(files):
        add(name)
    return pool


@BOTH
async def test_all_services_are_listed(ask: Callable[..., Awaitable[Any]], service: str) -> None:
    reply = await ask(service, list_services="")
    listed = [each.name for each in reply.list_services_response.service]
    assert listed == sorted([*SERVICES, reflection.V1, reflection.V1ALPHA])


@BOTH
@pytest.mark.parametrize("name", [*SERVICES, reflection.V1, reflection.V1ALPHA])
async def test_every_service_is_resolved_by_name(
    ask: Callable[..., Awaitable[Any]], service: str, name: str
) -> None:
    reply = await ask(service, file_containing_symbol=name)
    found = _pool(reply).FindServiceByName(name)
    assert found.methods


@BOTH
async def test_the_unversioned_service_is_the_first_contract_in_its_own_package(
    ask: Callable[..., Awaitable[Any]], service: str
) -> None:
    reply = await ask(service, file_containing_symbol="kotaemon.AgentService")
    found = _pool(reply).FindServiceByName("kotaemon.AgentService")
    method = found.methods_by_name["AskQuestion"]
    assert method.input_type.full_name == "kotaemon.QuestionRequest"
    assert method.output_type.full_name == "kotaemon.AnswerResponse"
    request = GetMessageClass(method.input_type)(query="why", context={"language": "en"})
    same = agent_pb2.QuestionRequest.FromString(request.SerializeToString())
    assert (same.query, dict(same.context)) == ("why", {"language": "en"})


@BOTH
async def test_a_method_and_a_file_are_resolved(
    ask: Callable[..., Awaitable[Any]], service: str
) -> None:
    reply = await ask(service, file_containing_symbol="kotaemon.v1.AgentService.ChatStream")
    file = descriptor_pb2.FileDescriptorProto.FromString(
        reply.file_descriptor_response.file_descriptor_proto[0]
    )
    assert file.package == "kotaemon.v1"
    again = await ask(service, file_by_filename=file.name)
    assert again.file_descriptor_response == reply.file_descriptor_response


@BOTH
@pytest.mark.parametrize(
    "name", ["kotaemon.v9.AgentService", "kotaemon.v1.AgentService.No", "kotaemon.Nothing"]
)
async def test_what_is_not_served_is_not_found(
    ask: Callable[..., Awaitable[Any]], service: str, name: str
) -> None:
    reply = await ask(service, file_containing_symbol=name)
    assert reply.error_response.error_code == 5


def test_a_service_without_generated_code_is_an_error() -> None:
    with pytest.raises(KeyError):
        reflection.handlers(["no.such.Service"])
