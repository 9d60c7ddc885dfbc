from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import pki, tls
from kotaemon_grpc.transport.certificate import Subject, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _load(
    directory: Path,
    clock: Any = None,
    passphrase: str = "",
    advice: tls.Advice = tls.INSTALLED,
    **files: Any,
) -> tls.Material:
    names = {"certificate": "server.pem", "key": "server-key.pem", "client_ca": "ca.pem"} | files
    paths = {part: directory / name for part, name in names.items()}
    extra = {} if clock is None else {"clock": clock}
    return tls.load(**paths, passphrase=passphrase, advice=advice, **extra)


def _refused(directory: Path, **arguments: Any) -> str:
    with pytest.raises(OperatorError) as raised:
        _load(directory, **arguments)
    message = str(raised.value)
    assert "\n" not in message
    assert "PRIVATE" not in message
    return message


@pytest.mark.parametrize("part", ["certificate", "key", "client_ca"])
def test_a_file_that_may_be_endless_is_refused(tmp_path: Path, part: str) -> None:
    pki.ensure(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**30)
    assert "pipe cannot be used: it is not a regular file" in _refused(tmp_path, **{part: "pipe"})
    assert "large cannot be used: it is larger than" in _refused(tmp_path, **{part: "large"})


async def _check(channel: grpc.aio.Channel) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    return reply.status


async def test_a_client_with_a_certificate_of_the_ca_is_served(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    async with serve() as (address, reporter), connect(address) as channel:
        reporter.set_serving([])
        assert await _check(channel) == health_pb2.HealthCheckResponse.SERVING


async def test_a_client_without_a_certificate_is_refused(
    serve: Callable[..., Any], connect: Callable[..., Any]
) -> None:
    async with serve() as (address, _), connect(address, None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _check(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_of_another_ca_is_refused(
    serve: Callable[..., Any], connect: Callable[..., Any], tmp_path: Path
) -> None:
    pki.ensure(tmp_path / "other")
    async with (
        serve() as (address, _),
        connect(address, "client", tmp_path / "other") as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _check(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_plaintext_client_is_refused(serve: Callable[..., Any]) -> None:
    async with serve() as (address, _), grpc.aio.insecure_channel(str(address)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _check(channel)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_expired_certificate_names_file_day_and_remedy(pki_dir: Path, clock: Any) -> None:
    clock.forward(days=7, minutes=1)
    day = clock().date()
    said = f"certificate {pki_dir}/server.pem expired on {day}; "
    assert _refused(pki_dir, clock=clock) == f"{said}install a new one"
    assert _refused(pki_dir, clock=clock, advice=tls.DEVELOPMENT) == (
        f'{said}run "kotaemon-grpc certs init" or install a new one'
    )


def test_a_certificate_of_the_future_is_refused(pki_dir: Path, clock: Any) -> None:
    clock.forward(hours=-1)
    assert "server.pem is not valid before" in _refused(pki_dir, clock=clock)


def test_an_expired_ca_is_refused(tmp_path: Path, pki_dir: Path, clock: Any) -> None:
    other = tmp_path / "other"
    start = clock.now
    clock.forward(days=-91)
    pki.ensure(other, clock)
    clock.now = start
    (pki_dir / "old.pem").write_bytes((other / "ca.pem").read_bytes())
    assert "CA bundle" in _refused(pki_dir, client_ca="old.pem", clock=clock)
    both = (other / "ca.pem").read_bytes() + (pki_dir / "ca.pem").read_bytes()
    (pki_dir / "both.pem").write_bytes(both)
    assert (
        _load(pki_dir, client_ca="both.pem", clock=clock).client_ca
        == (pki_dir / "ca.pem").read_bytes()
    )


@pytest.mark.parametrize("part", ["certificate", "key", "client_ca"])
def test_a_missing_file_is_named(pki_dir: Path, part: str) -> None:
    said = f"{pki_dir}/none.pem cannot be read: no such file or directory; "
    missing = {part: "none.pem"}
    assert _refused(pki_dir, **missing).endswith(f" {said}mend it or name another file")
    assert _refused(pki_dir, advice=tls.DEVELOPMENT, **missing).endswith(
        f' {said}run "kotaemon-grpc certs init" or name another file'
    )


def test_of_a_file_that_may_not_be_read_nothing_is_to_be_made_anew(
    pki_dir: Path, nobody: Any
) -> None:
    (pki_dir / "server.pem").chmod(0)
    with nobody():
        message = _refused(pki_dir, advice=tls.DEVELOPMENT)
    assert message == (
        f"certificate {pki_dir}/server.pem cannot be read: permission denied; "
        "make it readable or name another file"
    )


@pytest.mark.parametrize("part", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("content", [b"", b"\x30\x82 not pem", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_file_that_is_not_pem_is_named(pki_dir: Path, part: str, content: bytes) -> None:
    (pki_dir / "bad.pem").write_bytes(content)
    message = _refused(pki_dir, **{part: "bad.pem"})
    assert f"{pki_dir}/bad.pem is not a PEM" in message


def test_a_key_of_another_certificate_names_both(pki_dir: Path) -> None:
    message = _refused(pki_dir, key="client-key.pem")
    assert message == (
        f"key {pki_dir}/client-key.pem does not match certificate {pki_dir}/server.pem; "
        "install the two that belong together"
    )


def test_a_leaf_is_no_ca_bundle(pki_dir: Path) -> None:
    assert "is not of a CA" in _refused(pki_dir, client_ca="client.pem")


def test_a_certificate_for_clients_is_not_served(pki_dir: Path) -> None:
    pki.issue(pki_dir, "c", Subject("c", usages=(Usage.CLIENT,)))
    assert "is not made for servers" in _refused(pki_dir, certificate="c.pem", key="c-key.pem")


def test_an_encrypted_key_needs_the_passphrase(pki_dir: Path) -> None:
    words, wrong_words = "open sesame", "wrong-one"
    key = serialization.load_pem_private_key((pki_dir / "server-key.pem").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(words.encode()),
    )
    (pki_dir / "locked.pem").write_bytes(encrypted)
    assert "set tls.key_passphrase" in _refused(pki_dir, key="locked.pem")
    wrong = _refused(pki_dir, key="locked.pem", passphrase=wrong_words)
    assert "the passphrase is wrong" in wrong
    assert wrong_words not in wrong
    assert "remove tls.key_passphrase" in _refused(pki_dir, passphrase=words)
    assert _load(pki_dir, key="locked.pem", passphrase=words) == _load(pki_dir)


def test_material_tells_expiries_and_hides_the_key(pki_dir: Path, clock: Any) -> None:
    material = _load(pki_dir)
    left = {path.name: (at - clock()).days for path, at in material.expiries.items()}
    assert left["server.pem"] in {6, 7}
    assert left["ca.pem"] in {89, 90}
    assert "PRIVATE" not in repr(material)
