"""A server that starts before the keys of its callers can be had."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import grpc

from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

from .providers import AUDIENCE, Issuer, KeyServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETTINGS = """
[server]
credentials = ["jwt"]
[[identity.issuers]]
name = "late"
issuer = "https://late.example.org"
audiences = ["{audience}"]
jwks = "{url}/late"
jwks_ca = "{certs}/ca.pem"
refresh_s = 1.0
tenant_claim = "tenant"
roles_by_scope = {{ user = ["user"] }}
"""


async def test_a_token_that_cannot_be_verified_yet_may_be_sent_again(
    start: Callable[..., Any], certs: Path, tmp_path: Path, failure_of: Any
) -> None:
    published: list[bytes] = []
    issuer = Issuer("late", "ES256", published.append)
    token = issuer.token("acme", "user")
    with closing(KeyServer(certs)) as key_server:
        settings = tmp_path / "settings.toml"
        settings.write_text(
            SETTINGS.format(audience=AUDIENCE, url=key_server.url, certs=certs), encoding="utf-8"
        )
        serving = start(f"--config={settings}")
        credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(serving.address, credentials) as channel:
            stub = stubs.ConversationServiceStub(channel)

            def call(token: str) -> Any:
                metadata = (("authorization", f"Bearer {token}"),)
                request = pb.ListConversationsRequest()
                return stub.ListConversations(request, metadata=metadata, timeout=60)

            failure = await failure_of(call(token))
            assert (failure.code, failure.reason) == (
                "UNAVAILABLE",
                "CREDENTIALS_SOURCE_UNAVAILABLE",
            )
            assert failure.detail("RetryInfo").retry_delay.ToMilliseconds() == 1000
            trailers = dict(failure.error.trailing_metadata())
            assert trailers["grpc-retry-pushback-ms"] == "1000"
            assert (await failure_of(call("x.y.z"))).reason == "CREDENTIALS_MALFORMED"

            key_server.sets["late"] = published[-1]
            for _ in range(600):
                if any(line["event"] == "reload.finished" for line in serving.lines):
                    break
                await asyncio.sleep(0.1)
            await call(token)
            refused = await failure_of(call(issuer.forged("acme", "user")))
            assert refused.reason == "CREDENTIALS_NOT_TRUSTED"
