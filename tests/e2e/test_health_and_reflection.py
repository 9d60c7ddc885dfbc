"""Who gets in, what says that the server serves, and what it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs
from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVICES = {
    "kotaemon.AgentService",
    "kotaemon.v1.AgentService",
    "kotaemon.v2.AgentService",
    "kotaemon.v2.ConversationService",
    "kotaemon.v2.DocumentService",
    "kotaemon.v2.RetrievalService",
}
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REFLECTION = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
QUESTION = pb.AskQuestionRequest(question="Who plans the drills?")


def ask_reflection(channel: grpc.aio.Channel, package: str, **request: str) -> Any:
    method = channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    return method(iter([reflection_pb2.ServerReflectionRequest(**request)]))


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
async def test_both_ports_say_that_a_service_serves(
    server: Any, channel: grpc.aio.Channel, service: str
) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    async with grpc.aio.insecure_channel(server.health_address) as plaintext:
        for each in (channel, plaintext):
            response = await health_pb2_grpc.HealthStub(each).Check(request)
            assert response.status == SERVING


async def test_an_unknown_service_is_not_found(channel: grpc.aio.Channel, failure_of: Any) -> None:
    request = health_pb2.HealthCheckRequest(service="kotaemon.v9.AgentService")
    call = health_pb2_grpc.HealthStub(channel).Check(request)
    assert (await failure_of(call)).code == "NOT_FOUND"


async def test_a_watch_tells_when_the_server_drains(start: Callable[..., Any]) -> None:
    server = start()
    async with grpc.aio.insecure_channel(server.health_address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        server.process.terminate()
        assert (await watch.read()).status == NOT_SERVING
    assert server.wait() == 0


async def test_the_health_port_serves_nothing_else(server: Any, failure_of: Any) -> None:
    async with grpc.aio.insecure_channel(server.health_address) as channel:
        failure = await failure_of(stubs.AgentServiceStub(channel).AskQuestion(QUESTION))
    assert failure.code == "UNIMPLEMENTED"


@pytest.mark.parametrize("package", REFLECTION)
async def test_reflection_lists_the_services(channel: grpc.aio.Channel, package: str) -> None:
    response = await ask_reflection(channel, package, list_services="").read()
    listed = {service.name for service in response.list_services_response.service}
    assert listed >= SERVICES | {"grpc.health.v1.Health"}


@pytest.mark.parametrize("package", REFLECTION)
@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_reflection_describes_each_service(
    channel: grpc.aio.Channel, package: str, service: str
) -> None:
    call = ask_reflection(channel, package, file_containing_symbol=service)
    response = (await call.read()).file_descriptor_response
    files = map(descriptor_pb2.FileDescriptorProto.FromString, response.file_descriptor_proto)
    described = {
        f"{file.package}.{each.name}": [method.name for method in each.method]
        for file in files
        for each in file.service
    }
    if service.endswith("AgentService"):
        assert {"AskQuestion", "ChatStream"} <= set(described[service])
    assert described[service]


async def test_reflection_describes_what_errors_carry(channel: grpc.aio.Channel) -> None:
    for name in ("ErrorInfo", "BadRequest", "RequestInfo", "ResourceInfo"):
        call = ask_reflection(channel, REFLECTION[0], file_containing_symbol=f"google.rpc.{name}")
        assert (await call.read()).file_descriptor_response.file_descriptor_proto


async def test_reflection_can_be_switched_off(start: Callable[..., Any], failure_of: Any) -> None:
    server = start("--no-reflection")
    async with server.channel() as channel:
        for package in REFLECTION:
            method = f"/{package}.ServerReflection/ServerReflectionInfo"
            failure = await failure_of(channel.unary_unary(method)(b""))
            assert failure.code == "UNIMPLEMENTED"
        health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == SERVING


async def refused(server: Any, credentials: grpc.ChannelCredentials | None) -> bool:
    target = server.address
    channel = (
        grpc.aio.insecure_channel(target)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials)
    )
    async with channel:
        try:
            await stubs.AgentServiceStub(channel).AskQuestion(QUESTION)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_a_client_with_a_certificate_of_the_ca_is_let_in(server: Any) -> None:
    assert not await refused(server, server.tls.credentials())


async def test_a_client_without_a_certificate_is_refused(server: Any) -> None:
    credentials = grpc.ssl_channel_credentials(server.tls.ca.read_bytes())
    assert await refused(server, credentials)


async def test_a_client_of_another_ca_is_refused(server: Any, tmp_path: Path) -> None:
    pki.ensure(tmp_path / "other")
    credentials = grpc.ssl_channel_credentials(
        server.tls.ca.read_bytes(),
        (tmp_path / "other" / "client-key.pem").read_bytes(),
        (tmp_path / "other" / "client.pem").read_bytes(),
    )
    assert await refused(server, credentials)


async def test_a_server_of_another_ca_is_refused(server: Any, tmp_path: Path) -> None:
    pki.ensure(tmp_path / "other")
    credentials = grpc.ssl_channel_credentials(
        (tmp_path / "other" / "ca.pem").read_bytes(),
        server.tls.key.read_bytes(),
        server.tls.certificate.read_bytes(),
    )
    assert await refused(server, credentials)


async def test_plaintext_to_the_tls_port_is_refused(server: Any) -> None:
    assert await refused(server, None)


async def test_plaintext_can_be_served_on_loopback(start: Callable[..., Any]) -> None:
    assert not await refused(start("--insecure"), None)
