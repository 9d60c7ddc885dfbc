"""Files of TLS that are replaced under a real server."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import listener, pki, tls
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.rotation import Rotation
from kotaemon_grpc.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ECHO = "/test.Echo/Say"


class Rotated:
    """A server whose files are replaced at once."""

    def __init__(self, directory: Path) -> None:
        self.material = self.load(directory)
        self.rotation = Rotation(lambda: self.material)
        self.address = Address("127.0.0.1", 0)

    @staticmethod
    def load(directory: Path, ca: str = "ca.pem") -> tls.Material:
        return tls.load(directory / "server.pem", directory / "server-key.pem", directory / ca)

    def channel(self, directory: Path, *, trusting: Path) -> grpc.aio.Channel:
        files = (trusting / "ca.pem", directory / "client-key.pem", directory / "client.pem")
        credentials = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        # Channels to one address share connections unless they differ.
        options = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.aio.secure_channel(str(self.address), credentials, options)

    async def say(self, channel: grpc.aio.Channel) -> str:
        """Make a call, and return how it ended."""
        try:
            await channel.unary_unary(ECHO)(b"", timeout=30)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def say_once(self, directory: Path, *, trusting: Path) -> str:
        async with self.channel(directory, trusting=trusting) as channel:
            return await self.say(channel)

    def shown(self) -> bytes:
        """Return the certificate that a new connection is shown, DER."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((self.address.host, self.address.port)) as raw,
            context.wrap_socket(raw) as connection,
        ):
            return connection.getpeercert(binary_form=True)


@pytest.fixture
async def rotated(pki_dir: Path) -> AsyncIterator[Rotated]:
    async with serving(Rotated(pki_dir)) as rotated:
        yield rotated


@asynccontextmanager
async def serving(rotated: Rotated) -> AsyncIterator[Rotated]:
    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    handlers = {ECHO: grpc.unary_unary_rpc_method_handler(echo)}
    bounds = listener.Bounds(1024 * 1024, max_concurrent_streams=10, max_connections=100)
    server = Server(handlers, listener.server_options(bounds))
    rotated.address = listener.bind(server, rotated.address, rotated.rotation.credentials())
    await server.start()
    yield rotated
    await server.stop(None)


@pytest.fixture
def other_dir(tmp_path: Path) -> Path:
    """Another PKI."""
    pki.ensure(tmp_path / "other")
    return tmp_path / "other"


def der_of(directory: Path) -> bytes:
    (certificate,) = certificates.load_all(directory / "server.pem")
    return certificate.public_bytes(serialization.Encoding.DER)


async def test_new_connections_are_shown_the_new_certificate(
    rotated: Rotated, pki_dir: Path, other_dir: Path
) -> None:
    assert rotated.shown() == der_of(pki_dir)
    async with rotated.channel(pki_dir, trusting=pki_dir) as old:
        assert await rotated.say(old) == "OK"
        rotated.material = rotated.load(other_dir)
        for _ in range(2):  # the second has it from the first
            assert rotated.shown() == der_of(other_dir)
        assert await rotated.say_once(other_dir, trusting=other_dir) == "OK"
        assert await rotated.say_once(other_dir, trusting=pki_dir) == "UNAVAILABLE"
        assert await rotated.say(old) == "OK"  # its connection is older


async def test_a_ca_is_added_and_another_removed(
    rotated: Rotated, pki_dir: Path, other_dir: Path
) -> None:
    async def outcomes() -> tuple[str, str]:
        return (
            await rotated.say_once(pki_dir, trusting=pki_dir),
            await rotated.say_once(other_dir, trusting=pki_dir),
        )

    assert await outcomes() == ("OK", "UNAVAILABLE")
    both = b"".join((each / "ca.pem").read_bytes() for each in (pki_dir, other_dir))
    (pki_dir / "both.pem").write_bytes(both)
    rotated.material = rotated.load(pki_dir, "both.pem")
    assert await outcomes() == ("OK", "OK")
    (pki_dir / "new.pem").write_bytes((other_dir / "ca.pem").read_bytes())
    rotated.material = rotated.load(pki_dir, "new.pem")
    assert await outcomes() == ("UNAVAILABLE", "OK")


async def test_a_session_of_a_ca_that_was_removed_is_not_resumed(
    rotated: Rotated, pki_dir: Path, other_dir: Path
) -> None:
    context = ssl.create_default_context(cafile=pki_dir / "ca.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a handshake says who was refused
    context.load_cert_chain(pki_dir / "client.pem", pki_dir / "client-key.pem")
    context.set_alpn_protocols(["h2"])
    session = None

    def connect() -> ssl.SSLSession | None:
        with (
            socket.create_connection((rotated.address.host, rotated.address.port)) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as connection,
        ):
            return connection.session

    session = connect()
    connect()
    (pki_dir / "new.pem").write_bytes((other_dir / "ca.pem").read_bytes())
    rotated.material = rotated.load(pki_dir, "new.pem")
    with pytest.raises(OSError):  # noqa: PT011 - an alert, or the connection is reset
        connect()


# --- whom a connection that is open was trusted by --------------------------------


class Authority:
    """A CA, which may be under another one."""

    def __init__(self, name: str, above: Authority | None = None, *, is_ca: bool = True) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer = above or self
        now = certificates.utc_now()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(issuer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .sign(issuer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def after(*bundles: bytes) -> Rotation:
    """Make a rotation whose CAs were these, one bundle after the other."""
    materials = [tls.Material(b"", b"", bundle, {}) for bundle in bundles]
    rotation = Rotation(lambda: materials[0])
    del materials[:-1]
    return rotation


ROOT = Authority("root")
UPPER = Authority("upper", ROOT)
LOWER = Authority("lower", UPPER)
LEAF = Authority("leaf", LOWER, is_ca=False)
NO_CA = Authority("no CA", ROOT, is_ca=False)
LIE = Authority("lie", NO_CA, is_ca=False)
SAME_NAME = Authority("root")


@pytest.mark.parametrize(
    ("leaf", "others", "bundle", "is_trusted"),
    [
        (UPPER, [], [ROOT], True),
        (UPPER, [], [SAME_NAME, ROOT], True),
        (UPPER, [], [SAME_NAME], False),
        (UPPER, [], [LOWER], False),
        (LEAF, [LOWER, UPPER], [ROOT], True),
        (LEAF, [UPPER, LOWER], [ROOT], True),
        (LEAF, [UPPER, LOWER, ROOT], [SAME_NAME], False),
        (LEAF, [LOWER], [UPPER], True),
        (LEAF, [], [LOWER], True),
        (LEAF, [LOWER], [ROOT], False),
        (LEAF, [], [ROOT], False),
        (LIE, [NO_CA], [ROOT], False),
    ],
)
def test_who_is_trusted(
    leaf: Authority, others: list[Authority], bundle: list[Authority], *, is_trusted: bool
) -> None:
    rotation = after(b"before", b"".join(each.pem for each in bundle))
    assert rotation.trusts(leaf.pem, b"".join(each.pem for each in others)) is is_trusted


def test_what_cannot_be_read_is_not_trusted() -> None:
    rotation = after(b"before", ROOT.pem)
    assert not rotation.trusts(b"x", b"")
    assert not rotation.trusts(UPPER.pem, b"x")


def test_as_long_as_the_cas_are_the_same_tls_decides() -> None:
    assert after(ROOT.pem, ROOT.pem).trusts(LIE.pem, b"")


async def test_whoever_a_ca_let_in_for_a_while_is_not_trusted_after_it(
    rotated: Rotated, pki_dir: Path, other_dir: Path
) -> None:
    first = rotated.material
    (pki_dir / "new.pem").write_bytes((other_dir / "ca.pem").read_bytes())
    rotated.material = rotated.load(pki_dir, "new.pem")
    assert await rotated.say_once(other_dir, trusting=pki_dir) == "OK"
    rotated.material = first
    assert not rotated.rotation.trusts((other_dir / "client.pem").read_bytes(), b"")
    assert rotated.rotation.trusts((pki_dir / "client.pem").read_bytes(), b"")
