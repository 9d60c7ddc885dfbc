"""What `certs show` tells of a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from kotaemon_grpc.transport import keyfiles
from kotaemon_grpc.transport.certificate import issued_by, load_all, utc_now

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from kotaemon_grpc.transport.certificate import Clock


@dataclass(frozen=True, slots=True)
class Description:
    """A certificate for people. `chains` is None without a CA to compare with."""

    path: Path
    subject: str
    issuer: str
    sans: tuple[str, ...]
    spiffe: str
    not_before: dt.datetime
    not_after: dt.datetime
    remaining: dt.timedelta
    key_type: str
    sha256: str
    chains: bool | None


def describe(
    path: Path,
    ca: Path | None = None,
    clock: Clock = utc_now,
    advice: str = keyfiles.MEND,
) -> Description:
    """Describe the first certificate of a PEM file.

    Args:
        path: the certificate.
        ca: the CA bundle to compare with; None or a missing file leaves that out.
        clock: tells what remains, which is below zero for an expired one.
        advice: what to do about a certificate that is not there, as the end of a sentence.

    Raises:
        OperatorError: a file cannot be read as certificates.
    """
    certificate = load_all(path, advice=advice)[0]
    cas = load_all(ca, "CA bundle") if ca is not None and ca.exists() else None
    sans, spiffe = _alternative_names(certificate)
    return Description(
        path=path,
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        sans=sans,
        spiffe=spiffe,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        remaining=certificate.not_valid_after_utc - clock(),
        key_type=_key_type(certificate),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(":"),
        chains=None if cas is None else any(issued_by(certificate, each) for each in cas),
    )


def _alternative_names(certificate: x509.Certificate) -> tuple[tuple[str, ...], str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ""
    values = [str(name.value) for name in names]
    spiffe = next((value for value in values if value.startswith("spiffe://")), "")
    return tuple(value for value in values if value != spiffe), spiffe


def _key_type(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return "EdDSA"
    return "unknown"
