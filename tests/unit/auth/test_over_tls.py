"""What gRPC really says of a connection, and what we make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.auth.authenticator import Authenticator
from kotaemon_grpc.auth.certificate import CertificateVerifier
from kotaemon_grpc.core.errors import Unauthenticated
from kotaemon_grpc.transport import listener, pki, tls
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.certificate import Subject
from kotaemon_grpc.transport.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

WHO = "/test.Who/Am"


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Ask a real server who it takes us for: with a certificate, or over plaintext with None."""
    authenticator = Authenticator(
        accepts=frozenset({"certificate"}), certificates=CertificateVerifier(), min_tls="1.3"
    )
    open_to_all = Authenticator(
        accepts=frozenset({"none", "certificate"}), certificates=CertificateVerifier()
    )

    async def who(_request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        found = context.auth_context()
        metadata = dict(context.invocation_metadata())
        asked = authenticator if found.get("ssl_tls_version") else open_to_all
        try:
            return asked.identify(found, metadata).principal.encode()
        except Unauthenticated as error:
            return error.problem.name.encode()

    handler = grpc.method_handlers_generic_handler(
        "test.Who", {"Am": grpc.unary_unary_rpc_method_handler(who)}
    )
    pki.ensure(tmp_path)
    material = tls.load(*(tmp_path / name for name in ("server.pem", "server-key.pem", "ca.pem")))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([handler])
    loopback = Address("127.0.0.1", 0)
    secure = listener.bind(server, loopback, Rotation(lambda: material).credentials())
    plain = listener.bind(server, loopback, None)
    await server.start()

    async def call(name: str | None) -> str:
        if name is None:
            channel = grpc.aio.insecure_channel(str(plain))
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
        (Subject("cn", ("a.org", "b.org")), "dns:a.org"),
        (Subject("cn"), "cn:cn"),
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
