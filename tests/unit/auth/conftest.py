from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kotaemon_grpc.core.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NOW_S = 1_800_000_000.0
ALGORITHMS = {"rs": "RS256", "es": "ES256", "ed": "EdDSA"}


class Clock:
    """Seconds since the Unix epoch, as the test wants them."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


class Naps:
    """A sleep that lasts until the test ends it. Each nap is (seconds, its end)."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[tuple[float, asyncio.Event]] = asyncio.Queue()
        self._current: asyncio.Event | None = None
        self.cut_short = 0

    async def __call__(self, seconds: float) -> None:
        end = asyncio.Event()
        self._begun.put_nowait((seconds, end))
        try:
            await end.wait()
        except asyncio.CancelledError:
            self.cut_short += 1
            raise

    async def begun(self) -> float:
        """Wait until somebody sleeps, and return for how long."""
        seconds, self._current = await self._begun.get()
        return seconds

    def end(self) -> None:
        assert self._current is not None
        self._current.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture(scope="session")
def signing_keys() -> dict[str, Any]:
    """Private keys by kid; `rs2` and `weak` are further RSA keys."""
    return {
        "rs": rsa.generate_private_key(65537, 2048),
        "rs2": rsa.generate_private_key(65537, 2048),
        "weak": rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be refused
        "es": ec.generate_private_key(ec.SECP256R1()),
        "es384": ec.generate_private_key(ec.SECP384R1()),
        "ed": ed25519.Ed25519PrivateKey.generate(),
    }


@pytest.fixture(scope="session")
def jwk(signing_keys: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Make the public JWK of a key, with other members if given: None leaves one out."""
    kinds = {
        "rs": jwt.algorithms.RSAAlgorithm,
        "rs2": jwt.algorithms.RSAAlgorithm,
        "weak": jwt.algorithms.RSAAlgorithm,
        "es": jwt.algorithms.ECAlgorithm,
        "es384": jwt.algorithms.ECAlgorithm,
        "ed": jwt.algorithms.OKPAlgorithm,
    }

    def make(kid: str, /, *, private: bool = False, **members: Any) -> dict[str, Any]:
        key = signing_keys[kid] if private else signing_keys[kid].public_key()
        made = kinds[kid].to_jwk(key, as_dict=True)
        made.pop("key_ops", None)
        return {k: v for k, v in {**made, "kid": kid, **members}.items() if v is not None}

    return make


@pytest.fixture(scope="session")
def jwks() -> Callable[..., bytes]:
    """Make the content of a key set."""
    return lambda *keys: json.dumps({"keys": keys}).encode()


@pytest.fixture(scope="session")
def sign(signing_keys: dict[str, Any]) -> Callable[..., str]:
    """Make a token that is good at `NOW_S`, with other claims if given: None leaves one out."""

    def make(kid: str = "rs", header: dict[str, Any] | None = None, /, **claims: Any) -> str:
        good = {"iss": "https://idp", "aud": "agents", "sub": "alice", "exp": NOW_S + 60}
        payload = {k: v for k, v in {**good, **claims}.items() if v is not None}
        algorithm = ALGORITHMS.get(kid, "RS256")
        headers = {"kid": kid, **(header or {})}
        return jwt.encode(
            payload,
            signing_keys[kid],
            headers.get("alg", algorithm),
            {k: v for k, v in headers.items() if v is not None},
        )

    return make


@pytest.fixture(scope="session")
def certificate() -> Callable[..., bytes]:
    """Make a self-signed certificate, PEM: TLS has verified it, so who signed it is no matter."""
    key = ec.generate_private_key(ec.SECP256R1())

    def make(
        common_name: str = "",
        names: Iterable[x509.GeneralName] = (),
        *,
        start_s: float = NOW_S - 60,
        end_s: float = NOW_S + 3600,
    ) -> bytes:
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")]))
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(dt.datetime.fromtimestamp(start_s, dt.UTC))
            .not_valid_after(dt.datetime.fromtimestamp(end_s, dt.UTC))
        )
        listed = list(names)
        if listed:
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    return make


@pytest.fixture(scope="session")
def thumbprint_of() -> Callable[[bytes], str]:
    """Compute the x5t#S256 of a certificate from its PEM text."""

    def compute(pem: bytes) -> str:
        der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
        return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")

    return compute


@pytest.fixture(scope="session")
def problem_of() -> Callable[..., str]:
    """Name what is wrong with the credentials that a call refuses: `problem_of(f, *args)`."""

    def run(function: Callable[..., Any], *arguments: Any) -> str:
        with pytest.raises(Unauthenticated) as caught:
            function(*arguments)
        return caught.value.problem.name

    return run


@pytest.fixture(scope="session")
def now_s() -> float:
    return NOW_S
