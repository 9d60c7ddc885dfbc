from __future__ import annotations

import datetime as dt
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.address import Address
from kotaemon_grpc.transport.certificate import Subject, Usage
from kotaemon_grpc.transport.operations import Operations, server_tls

if TYPE_CHECKING:
    from pathlib import Path


def context_of(directory: Path, clock: Any = None, **files: str) -> ssl.SSLContext:
    paths = {
        part: directory / name
        for part, name in ({"certificate": "server.pem", "key": "server-key.pem"} | files).items()
    }
    return server_tls(**paths, **({} if clock is None else {"clock": clock})).context


def refused(directory: Path, clock: Any = None, **files: str) -> str:
    with pytest.raises(OperatorError) as raised:
        context_of(directory, clock, **files)
    message = str(raised.value)
    assert "\n" not in message
    assert "PRIVATE" not in message
    return message


def client_of(directory: Path, *, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if certificate:
        context.load_cert_chain(directory / "client.pem", directory / "client-key.pem")
    return context


async def status_of(server: ssl.SSLContext, client: ssl.SSLContext, scheme: str = "https") -> int:
    operations = Operations(Address("127.0.0.1", 0), CollectorRegistry(), {}, tls=server)
    bound = await operations.start()
    try:
        async with (
            aiohttp.ClientSession(f"{scheme}://{bound}") as session,
            session.get("/metrics", ssl=client) as reply,
        ):
            await reply.read()
            return reply.status
    finally:
        await operations.stop()


async def test_pages_are_served_over_tls(pki_dir: Path) -> None:
    assert await status_of(context_of(pki_dir), client_of(pki_dir)) == 200


async def test_plaintext_is_not_answered(pki_dir: Path) -> None:
    with pytest.raises(aiohttp.ClientError):
        await status_of(context_of(pki_dir), client_of(pki_dir), scheme="http")


async def test_with_a_client_ca_only_its_clients_are_served(pki_dir: Path) -> None:
    server = context_of(pki_dir, client_ca="ca.pem")
    assert await status_of(server, client_of(pki_dir, certificate=True)) == 200
    with pytest.raises(aiohttp.ClientError):
        await status_of(server, client_of(pki_dir))


async def test_tls_1_2_is_the_oldest(pki_dir: Path) -> None:
    assert context_of(pki_dir).minimum_version is ssl.TLSVersion.TLSv1_2
    client = client_of(pki_dir)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await status_of(context_of(pki_dir), client) == 200


@pytest.mark.parametrize("part", ["certificate", "key", "client_ca"])
def test_a_missing_file_is_named(pki_dir: Path, part: str) -> None:
    message = refused(pki_dir, **{part: "none.pem"})
    assert f"{pki_dir}/none.pem cannot be read: no such file or directory" in message


@pytest.mark.parametrize("part", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("content", [b"", b"\x30\x82 not pem", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_not_pem_is_named(pki_dir: Path, part: str, content: bytes) -> None:
    (pki_dir / "bad.pem").write_bytes(content)
    assert f"{pki_dir}/bad.pem is not a PEM" in refused(pki_dir, **{part: "bad.pem"})


def test_a_key_of_another_certificate_names_both(pki_dir: Path) -> None:
    assert refused(pki_dir, key="client-key.pem") == (
        f"key {pki_dir}/client-key.pem does not match certificate {pki_dir}/server.pem; "
        "install the two that belong together"
    )


def test_an_encrypted_key_is_refused_without_asking(pki_dir: Path) -> None:
    key = serialization.load_pem_private_key((pki_dir / "server-key.pem").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    (pki_dir / "locked.pem").write_bytes(encrypted)
    assert refused(pki_dir, key="locked.pem") == (
        f"key {pki_dir}/locked.pem is encrypted; name one that is not in operations.key"
    )


def test_a_key_that_openssl_has_no_faith_in_is_refused(pki_dir: Path, clock: Any) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - too small on purpose
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    weak = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(clock())
        .not_valid_after(clock() + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (pki_dir / "weak.pem").write_bytes(weak.public_bytes(serialization.Encoding.PEM))
    (pki_dir / "weak-key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    message = refused(pki_dir, certificate="weak.pem", key="weak-key.pem")
    assert f"{pki_dir}/weak.pem and key {pki_dir}/weak-key.pem cannot be used: " in message
    assert "EE_KEY_TOO_SMALL" in message


def test_a_certificate_for_clients_is_refused(pki_dir: Path) -> None:
    pki.issue(pki_dir, "c", Subject("c", usages=(Usage.CLIENT,)))
    message = refused(pki_dir, certificate="c.pem", key="c-key.pem")
    assert message.endswith("c.pem is not made for servers; install a new one")


def test_a_leaf_is_no_ca_bundle(pki_dir: Path) -> None:
    assert "is not of a CA" in refused(pki_dir, client_ca="client.pem")


def test_certificates_that_are_not_valid_now_are_refused(pki_dir: Path, clock: Any) -> None:
    clock.forward(hours=-1)
    assert "server.pem is not valid before" in refused(pki_dir, clock)
    clock.forward(days=7, hours=2)
    assert refused(pki_dir, clock) == (
        f"certificate {pki_dir}/server.pem expired on {clock().date()}; install a new one"
    )


def test_an_expired_ca_is_refused(tmp_path: Path, pki_dir: Path, clock: Any) -> None:
    clock.forward(days=-91)
    pki.ensure(tmp_path / "other", clock)
    clock.forward(days=91)
    old = (tmp_path / "other" / "ca.pem").read_bytes()
    (pki_dir / "old.pem").write_bytes(old)
    assert "CA bundle" in refused(pki_dir, clock, client_ca="old.pem")
    (pki_dir / "both.pem").write_bytes(old + (pki_dir / "ca.pem").read_bytes())
    assert context_of(pki_dir, clock, client_ca="both.pem").verify_mode is ssl.CERT_REQUIRED
