"""One X.509 certificate (RFC 5280): how it is made and read."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import keyfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    Clock = Callable[[], dt.datetime]

CLOCK_SKEW = dt.timedelta(minutes=5)
MAX_SPIFFE_ID_BYTES = 2048  # SPIFFE-ID, section 2.3
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*", re.ASCII)
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    re.ASCII,
)


class Usage(enum.Enum):
    """What a certificate is good for (RFC 5280, section 4.2.1.12)."""

    SERVER = "server"
    CLIENT = "client"


_OIDS = {
    Usage.SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    Usage.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a leaf certificate names.

    Args:
        common_name: 1 to 64 characters.
        sans: DNS names and IP addresses.
        spiffe: a SPIFFE ID, or empty.
        usages: at least one.
    """

    common_name: str
    sans: tuple[str, ...] = ()
    spiffe: str = ""
    usages: Collection[Usage] = (Usage.SERVER, Usage.CLIENT)


def utc_now() -> dt.datetime:
    """Tell the time; the default clock of all that looks at validity."""
    return dt.datetime.now(dt.UTC)


def parse_san(text: str) -> x509.GeneralName:
    """Read a DNS name or an IP address.

    Raises:
        OperatorError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _DNS_NAME.fullmatch(text):
        raise OperatorError(f'"{text}" is neither a DNS name nor an IP address')
    return x509.DNSName(text)


def parse_spiffe(text: str) -> x509.GeneralName:
    """Read a SPIFFE ID.

    Raises:
        OperatorError: it is none (SPIFFE-ID, section 2).
    """
    segments = text.split("/")[3:]
    if (
        len(text) > MAX_SPIFFE_ID_BYTES
        or not _SPIFFE_ID.fullmatch(text)
        or not {".", ".."}.isdisjoint(segments)
    ):
        raise OperatorError(f'"{text}" is no SPIFFE ID, as "spiffe://example.org/agent"')
    return x509.UniformResourceIdentifier(text)


def sign_ca(
    key: ec.EllipticCurvePrivateKey, name: str, life: dt.timedelta, now: dt.datetime
) -> x509.Certificate:
    """Make the self-signed certificate of a CA that signs leaves only."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        _builder(subject, subject, key.public_key(), now, now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def sign_leaf(
    subject: Subject,
    public_key: ec.EllipticCurvePublicKey,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    validity: tuple[dt.datetime, dt.datetime],
) -> x509.Certificate:
    """Make a leaf certificate; `validity` is now and its end.

    Raises:
        OperatorError: a name of the subject is not valid.
    """
    names = [parse_san(san) for san in subject.sans]
    if subject.spiffe:
        names.append(parse_spiffe(subject.spiffe))
    common_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(common_name, ca.subject, public_key, *validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([_OIDS[u] for u in Usage if u in subject.usages]), critical=False
        )
        .add_extension(authority, critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    now: dt.datetime,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def allows(certificate: x509.Certificate, usage: Usage) -> bool:
    """Tell whether a certificate may be used so. One that does not say may."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return _OIDS[usage] in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tell whether a CA signed a certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def load_all(
    path: Path, what: str = "certificate", advice: str = keyfiles.MEND
) -> list[x509.Certificate]:
    """Read the certificates of a PEM file, at least one.

    Args:
        path: the file.
        what: its kind, for the error.
        advice: what to do about a file that is not there, as the end of a sentence.

    Raises:
        OperatorError: the file is missing, cannot be read or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(keyfiles.read(path, what, advice))
    except ValueError:
        raise OperatorError(
            f"{what} {path} is not a PEM certificate; install one that begins with "
            '"-----BEGIN CERTIFICATE-----"'
        ) from None
