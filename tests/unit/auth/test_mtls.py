from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.auth.mtls import caller_of
from kotaemon_grpc.core.model import DEFAULT_TENANT
from kotaemon_grpc.transport import listener, pki, tls
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.certificate import Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

WHO = "/test.Who/Am"


@pytest.mark.parametrize(
    ("context", "principal"),
    [
        (
            {
                "x509_common_name": [b"cn"],
                "x509_subject_alternative_name": [b"a.example.org"],
                "peer_spiffe_id": [b"spiffe://example.org/a"],
            },
            "spiffe://example.org/a",
        ),
        (
            {"x509_common_name": [b"cn"], "x509_subject_alternative_name": [b"a", b"b"]},
            "a",
        ),
        ({"x509_common_name": [b"cn"], "peer_spiffe_id": []}, "cn"),
        ({"x509_common_name": [b""]}, "anonymous"),
        ({"x509_common_name": [b"\xff"]}, "\ufffd"),
        ({}, "anonymous"),
    ],
)
def test_the_best_name_wins(context: dict[str, list[bytes]], principal: str) -> None:
    caller = caller_of(context)
    assert (caller.principal, caller.tenant) == (principal, DEFAULT_TENANT)


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Ask a real server who it takes us for."""

    async def who(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return caller_of(context.auth_context()).principal.encode()

    handler = grpc.method_handlers_generic_handler(
        "test.Who", {"Am": grpc.unary_unary_rpc_method_handler(who)}
    )
    pki.ensure(tmp_path)
    material = tls.load(*(tmp_path / name for name in ("server.pem", "server-key.pem", "ca.pem")))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    loopback = Address("127.0.0.1", 0)
    secure = listener.bind(server, loopback, tls.server_credentials(material))
    insecure = listener.bind(server, loopback, None)
    await server.start()

    async def call(name: str | None) -> str:
        if name is None:
            channel = grpc.aio.insecure_channel(str(insecure))
        else:
            files = (tmp_path / f for f in ("ca.pem", f"{name}-key.pem", f"{name}.pem"))
            credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
            channel = grpc.aio.secure_channel(str(secure), credentials)
        async with channel:
            return (await channel.unary_unary(WHO)(b"", timeout=10)).decode()

    yield call
    await server.stop(None)


@pytest.mark.parametrize(
    ("subject", "principal"),
    [
        (Subject("cn", ("a.org", "b.org"), "spiffe://a.org/agent"), "spiffe://a.org/agent"),
        (Subject("cn", ("a.org", "b.org")), "a.org"),
        (Subject("cn"), "cn"),
    ],
)
async def test_a_verified_certificate_names_the_caller(
    ask: Callable[..., Awaitable[Any]], tmp_path: Path, subject: Subject, principal: str
) -> None:
    pki.issue(tmp_path, "x", subject)
    assert await ask("x") == principal


async def test_the_developer_and_plaintext_have_names(ask: Callable[..., Awaitable[Any]]) -> None:
    assert await ask("client") == pki.DEVELOPER_SPIFFE_ID
    assert await ask(None) == "anonymous"
