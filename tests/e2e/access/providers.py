"""Identity providers."""

from __future__ import annotations

import http.server
import json
import secrets
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AUDIENCE = "agents"
_KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "RS256": (lambda: rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, jwt.algorithms.OKPAlgorithm),
}


class Issuer:
    """An identity provider, whose keys are in a file or behind a URL."""

    def __init__(self, name: str, algorithm: str, publish: Callable[[bytes], object]) -> None:
        self.name = name
        self.url = f"https://{name}.example.org"
        self.algorithm = algorithm
        self.publish = publish
        self.made: list[str] = []
        self.rotate()

    def rotate(self) -> None:
        """Sign with a new key, the only one that is published."""
        self.kid = secrets.token_hex(4)
        make, kind = _KINDS[self.algorithm]
        self._key = make()
        self.public = kind.to_jwk(self._key.public_key(), as_dict=True)
        self.publish(json.dumps({"keys": [{**self.public, "kid": self.kid}]}).encode())

    def token(self, tenant: object, *roles: str, key: Any = None, **claims: Any) -> str:
        """Make a token; `key` signs it in place of the issuer's own."""
        payload = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "alice",
            "exp": time.time() + 600,
            "tenant": tenant,
            "scope": " ".join(roles),
            **claims,
        }
        token = jwt.encode(payload, key or self._key, self.algorithm, {"kid": self.kid})
        self.made.append(token)
        return token

    def forged(self, tenant: str, *roles: str) -> str:
        """Make a token that another key has signed."""
        return self.token(tenant, *roles, key=_KINDS[self.algorithm][0]())


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers a request, and logs nothing."""

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class HttpsServer:
    """A server on a thread of its own, with the certificate of the server under test."""

    def __init__(self, certs: Path, handler: type[Answering]) -> None:
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs / "server.pem", certs / "server-key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class KeyServer(HttpsServer):
    """Serves key sets, by the name of the issuer."""

    def __init__(self, certs: Path) -> None:
        self.sets: dict[str, bytes] = {}
        sets = self.sets

        class Handler(Answering):
            def do_GET(self) -> None:
                body = sets.get(self.path.strip("/"))
                self.answer(200 if body else 503, body or b"")

        super().__init__(certs, Handler)


class TokenServer(HttpsServer):
    """Gives tokens, for as long as it says that they are good."""

    def __init__(self, certs: Path, make: Callable[[int], str]) -> None:
        self.given: list[str] = []
        given = self.given

        class Handler(Answering):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                given.append(make(len(given) + 1))
                answer = {"access_token": given[-1], "token_type": "Bearer", "expires_in": 300}
                self.answer(200, json.dumps(answer).encode())

        super().__init__(certs, Handler)
