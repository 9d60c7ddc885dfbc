"""How the start waits for what tokens are verified with."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from kotaemon_grpc.app.access import Access
from kotaemon_grpc.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUERS = ("one", "two")
HELD_S = 60


class Provider(ThreadingHTTPServer):
    """The identity provider of both issuers: it keeps silent until both were asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.both_asked = threading.Barrier(len(ISSUERS))
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        made = jwt.algorithms.ECAlgorithm.to_jwk(key, as_dict=True)
        self.key_set = json.dumps({"keys": [made]}).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        try:
            self.server.both_asked.wait(HELD_S)
        except threading.BrokenBarrierError:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-length", str(len(self.server.key_set)))
        self.end_headers()
        self.wfile.write(self.server.key_set)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        serving = threading.Thread(target=provider.serve_forever)
        serving.start()
        yield provider
        provider.both_asked.abort()
        provider.shutdown()
        serving.join()


async def test_the_start_waits_for_all_issuers_together(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{provider.server_port}/keys"
    issuers = [
        {"name": name, "issuer": f"https://{name}.example", "audiences": ["agents"], "jwks": url}
        for name in ISSUERS
    ]
    config = Config.model_validate({"identity": {"issuers": issuers}})
    told: list[tuple[str, str]] = []
    access = Access(config, lambda _, name, problem: told.append((name, problem)))
    # The time that the start has does not pass, however slow the machine.
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 0.0)
    await access.load()
    assert sorted(told) == [(f"identity.issuers, {name}", "") for name in ISSUERS]
