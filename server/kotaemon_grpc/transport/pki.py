"""The development PKI: a CA of its own, short-lived leaves, all in one directory.

It exists so that mTLS works from the first minute. It is no CA for production:
its key lies beside what it signs.
"""

from __future__ import annotations

import datetime as dt
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kotaemon_grpc.auth import files
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import keyfiles
from kotaemon_grpc.transport.certificate import Subject, Usage, utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from kotaemon_grpc.transport.certificate import Clock

CA_LIFE = dt.timedelta(days=90)
LEAF_LIFE = dt.timedelta(days=7)
RENEW_BELOW = 1 / 3
"""The part of a certificate's life that is left when it is renewed."""

DEVELOPER_SPIFFE_ID = "spiffe://kotaemon-grpc.dev/developer"
_CA_NAME = "kotaemon-grpc development CA"
_RESERVED = {"ca", "server", "client"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)  # also RFC 5280's ub-common-name


@dataclass(frozen=True, slots=True)
class Change:
    """A certificate that was made or renewed."""

    path: Path
    renewed: bool


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure(directory: Path, clock: Clock = utc_now) -> list[Change]:
    """See that the directory has a CA, a server's and a client's certificate, all good.

    What is good is left alone. A leaf is renewed when it has less than a third of
    its life left, when its key does not fit or when another CA signed it; the CA
    by the same measure, keeping its key, so that who trusts it need not notice,
    and all leaves with it.

    Args:
        directory: created with mode 0700 if it is missing.
        clock: the present time.

    Returns:
        What was made or renewed, in that order.

    Raises:
        OperatorError: the directory cannot be written, or its CA is not ours to
            issue from.
    """
    if _is_good(directory, clock()):
        return []  # also where the directory is read-only
    with keyfiles.locked(directory):
        return _renew(directory, clock())


def issue(
    directory: Path,
    name: str,
    subject: Subject,
    *,
    days: int = LEAF_LIFE.days,
    out: Path | None = None,
    clock: Clock = utc_now,
) -> tuple[Path, Path]:
    """Issue one more certificate, as `NAME.pem` and `NAME-key.pem`.

    Args:
        directory: the PKI's; completed by `ensure` first.
        name: 1 to 63 letters, digits, ".", "_" and "-"; not `ca`, `server`, `client`.
        subject: whom it names.
        days: how long it is valid, from 1 to what the CA has left.
        out: where it goes; the PKI's directory if None.
        clock: the present time.

    Raises:
        OperatorError: an argument is not valid, the files exist, or as `ensure` does.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise OperatorError(
            f'"{name}" cannot name a certificate; use letters, digits, ".", "_" and "-", and not '
            + ", ".join(sorted(_RESERVED))
        )
    ensure(directory, clock)
    target = out or directory
    paths = target / f"{name}.pem", target / f"{name}-key.pem"
    now = clock()
    with keyfiles.writing(target):
        authority = _load_authority(directory)
        left = (authority.certificate.not_valid_after_utc - now).days
        if not 1 <= days <= left:
            raise OperatorError(
                f"{days} days are not possible: the CA has {left} left; choose 1 to {left}"
            )
        for path in paths:
            if path.exists():
                raise OperatorError(f"{path} exists; remove it, or choose another name or --out")
        _write_leaf(target, name, subject, authority, now, dt.timedelta(days=days))
    return paths


def _is_good(directory: Path, now: dt.datetime) -> bool:
    ca_path, key_path = _paths(directory, "ca")
    if not (ca_path.exists() and key_path.exists()):
        # The certificates of another CA may be good: then its key is not needed.
        return ca_path.exists() and _leaves_are_good(directory, _load_ca(ca_path), now)
    ca = _load_ca(ca_path)
    return not _is_due(ca, now) and _leaves_are_good(directory, ca, now)


def _leaves_are_good(directory: Path, ca: x509.Certificate, now: dt.datetime) -> bool:
    return all(_leaf_is_good(directory, name, ca, now) for name in _leaves())


def _renew(directory: Path, now: dt.datetime) -> list[Change]:
    if _is_good(directory, now):
        return []  # another process was here first
    changes = []
    ca_path, key_path = _paths(directory, "ca")
    had_ca = ca_path.exists()
    if had_ca and not key_path.exists():
        raise OperatorError(
            f"certificates in {directory} have to be issued, but {ca_path} is there without "
            f"{key_path.name}; add the key, name your own files in [tls] of the settings, or empty "
            "the directory for a new CA"
        )
    # Loading both tells whether they belong together, before one is written over.
    new_ca = not had_ca or _is_due(_load_authority(directory).certificate, now)
    if new_ca:
        key = _load_key(key_path) if key_path.exists() else _new_key(key_path)
        signed = certificates.sign_ca(key, _CA_NAME, CA_LIFE, now)
        files.write(ca_path, _pem(signed), files.PUBLIC_FILE)
        changes.append(Change(ca_path, renewed=had_ca))
    authority = _load_authority(directory)
    for name, subject in _leaves().items():
        if not new_ca and _leaf_is_good(directory, name, authority.certificate, now):
            continue
        path = _paths(directory, name)[0]
        changes.append(Change(path, renewed=path.exists()))
        _write_leaf(directory, name, subject, authority, now, LEAF_LIFE)
    return changes


def _leaves() -> dict[str, Subject]:
    hosts = dict.fromkeys(("localhost", "127.0.0.1", "::1", *_host_names()))
    return {
        "server": Subject("kotaemon-grpc", sans=tuple(hosts), usages=(Usage.SERVER,)),
        "client": Subject("developer", spiffe=DEVELOPER_SPIFFE_ID, usages=(Usage.CLIENT,)),
    }


def _host_names() -> list[str]:
    name = socket.gethostname()
    try:
        certificates.parse_san(name)
    except OperatorError:
        return []  # a machine may call itself what no DNS name is
    return [name]


def _leaf_is_good(directory: Path, name: str, ca: x509.Certificate, now: dt.datetime) -> bool:
    certificate_path, key_path = _paths(directory, name)
    try:
        leaf = certificates.load_all(certificate_path)[0]
        key = _load_key(key_path)
    except OperatorError:
        return False
    return (
        key.public_key() == leaf.public_key()
        and certificates.issued_by(leaf, ca)
        and not _is_due(leaf, now)
    )


def _is_due(certificate: x509.Certificate, now: dt.datetime) -> bool:
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    # One from the future was made under a clock that was wrong: it is no good now.
    early = now < certificate.not_valid_before_utc
    return early or certificate.not_valid_after_utc - now < life * RENEW_BELOW


def _write_leaf(  # noqa: PLR0917 - private, and all of different types
    directory: Path,
    name: str,
    subject: Subject,
    authority: _Authority,
    now: dt.datetime,
    life: dt.timedelta,
) -> None:
    certificate_path, key_path = _paths(directory, name)
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + life, authority.certificate.not_valid_after_utc)
    leaf = certificates.sign_leaf(
        subject, key.public_key(), authority.certificate, authority.key, (now, end)
    )
    files.write(key_path, _key_pem(key), files.PRIVATE_FILE)
    files.write(certificate_path, _pem(leaf), files.PUBLIC_FILE)


def _load_authority(directory: Path) -> _Authority:
    certificate_path, key_path = _paths(directory, "ca")
    authority = _Authority(_load_ca(certificate_path), _load_key(key_path))
    if authority.certificate.public_key() != authority.key.public_key():
        raise OperatorError(
            f"{key_path} is not the key of {certificate_path}; put the right one there, or empty "
            "the directory for a new CA"
        )
    return authority


def _load_ca(path: Path) -> x509.Certificate:
    ca = certificates.load_all(path, "CA certificate", keyfiles.INIT)[0]
    if not certificates.is_ca(ca):
        raise OperatorError(f"{path} is not the certificate of a CA; install one that is")
    return ca


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        pem = keyfiles.read(path, "key", keyfiles.INIT)
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise OperatorError(
            f"{path} is not an ECDSA key that can be used; put the right one there, or remove it "
            "and its certificate"
        )
    return key


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    files.write(path, _key_pem(key), files.PRIVATE_FILE)
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _paths(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.pem", directory / f"{name}-key.pem"
