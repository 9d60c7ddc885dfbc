"""What callers show and what servers check it by: certificates, tokens and their keys."""

from __future__ import annotations

import json
import ssl
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = 100
ISSUER = "https://issuer.example"
AUDIENCE = "kotaemon-grpc"
TENANT = "acme"
SCOPE = "questions:ask"
KEY_ID = "2026-01"
ALGORITHM = "RS256"
JWKS_FILE = "jwks.json"

_LIFE_S = 24 * 3600
_KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class Material:
    """A directory with certificates and a key set, and tokens that fit it.

    Args:
        directory: has `ca.pem`, `server.pem`, `server-key.pem`, `client.pem`,
            `client-key.pem` and `jwks.json`.
        tokens: valid ones, each of another subject.
        foreign_token: one that differs from them in who signed it.
    """

    directory: Path
    tokens: tuple[str, ...]
    foreign_token: str

    def client_tls(self, protocol: str) -> ssl.SSLContext:
        """Make a client's TLS context with its certificate; `protocol` is for ALPN."""
        context = ssl.create_default_context(cafile=self.directory / "ca.pem")
        context.load_cert_chain(self.directory / "client.pem", self.directory / "client-key.pem")
        context.set_alpn_protocols([protocol])
        return context


def make(directory: Path) -> Material:
    """Fill a directory."""
    pki.ensure(directory)
    key, foreign_key = (rsa.generate_private_key(65537, _KEY_BITS) for _ in range(2))
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    jwks = {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": ALGORITHM}]}
    (directory / JWKS_FILE).write_text(json.dumps(jwks))
    return Material(
        directory,
        tokens=tuple(_token(key, f"user-{number:03}") for number in range(TOKENS)),
        foreign_token=_token(foreign_key, "user-000"),
    )


def _token(key: rsa.RSAPrivateKey, subject: str) -> str:
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "tenant": TENANT,
        "scope": f"openid {SCOPE}",
        "iat": now,
        "nbf": now,
        "exp": now + _LIFE_S,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": KEY_ID})
