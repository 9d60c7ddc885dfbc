"""The keys of a JSON Web Key set (RFC 7517) that tokens may be signed with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from kotaemon_grpc.auth.reload import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kotaemon_grpc.auth.naming import Algorithm

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

MIN_RSA_BITS = 2048
"""RFC 7518, section 3.3."""

_ALGORITHMS: dict[tuple[str, Any], Algorithm] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
"""By `kty` and `crv`: the one algorithm that a key may verify here."""

_PRIVATE = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})
"""RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1: the members that are nobody's but the signer's."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key. `algorithm` is the only one it is good for; `kid` is None without a name."""

    kid: str | None
    algorithm: str
    key: PublicKey = field(repr=False)


def parse_jwks(content: bytes) -> tuple[VerificationKey, ...]:
    """Read a key set. Keys that are of no use here are passed over.

    Those are keys for other algorithms or uses, symmetric and weak ones, and any key
    whose private half stands in the set: whoever can read it could sign with it.

    Raises:
        SourceError: it is no key set, or has no usable key.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise SourceError("it is not JSON") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise SourceError('it is no JSON Web Key set, which has a list "keys"')
    usable = tuple(key for each in keys if (key := _usable(each)) is not None)
    if not usable:
        raise SourceError("it has no usable key for RS256, ES256 or EdDSA")
    return usable


def _usable(jwk: Any) -> VerificationKey | None:
    if not isinstance(jwk, dict) or not _PRIVATE.isdisjoint(jwk):
        return None
    texts = {name: jwk.get(name) for name in ("kty", "crv", "kid", "alg", "use", "n", "e", "x")}
    if any(not isinstance(value, str | None) for value in texts.values()):
        return None
    algorithm = _ALGORITHMS.get((str(jwk.get("kty")), jwk.get("crv")))
    if algorithm is None or not _may_verify(jwk, algorithm):
        return None
    try:
        key = PyJWK(jwk, algorithm).key
    except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(jwk.get("kid"), algorithm, key)


def _may_verify(jwk: Mapping[str, Any], algorithm: str) -> bool:
    """RFC 7517, sections 4.2 to 4.4: a key that says what it is for is for nothing else."""
    operations = jwk.get("key_ops")
    return (
        jwk.get("alg") in {None, algorithm}
        and jwk.get("use") in {None, "sig"}
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )
