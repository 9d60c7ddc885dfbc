"""TLS of the operations port: its files are checked, so that each fault says what to do."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import keyfiles
from kotaemon_grpc.transport.certificate import Usage, utc_now

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path

    from cryptography import x509

    from kotaemon_grpc.transport.certificate import Clock


def server_context(
    certificate: Path, key: Path, client_ca: Path | None = None, *, clock: Clock = utc_now
) -> ssl.SSLContext:
    """Read the files of the operations port and make what it serves TLS with.

    TLS 1.2 is the oldest that it speaks (RFC 8996).

    Args:
        certificate: the server's certificate, with intermediates after it.
        key: its private key, not encrypted.
        client_ca: the bundle of the CAs that clients' certificates must come from;
            None asks for no certificate.
        clock: the present time.

    Raises:
        OperatorError: a file is missing, cannot be read or is not what it should
            be; a certificate is not valid now; key and certificate do not match.
    """
    chain = certificates.load_all(certificate)
    if not certificates.allows(chain[0], Usage.SERVER):
        raise OperatorError(f"certificate {certificate} is not made for servers; install a new one")
    for each in chain:
        _check_validity(each, f"certificate {certificate}", clock())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_pair(context, certificate, key)
    if client_ca is not None:
        _load_cas(context, client_ca, clock())
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse() -> str:
        raise OperatorError(f"key {key} is encrypted; name one that is not in operations.key")

    keyfiles.read(key, "key")  # OpenSSL would not say which of the two is missing
    try:
        context.load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OperatorError(
                f"key {key} does not match certificate {certificate}; "
                "install the two that belong together"
            ) from None
        raise OperatorError(f"key {key} is not a PEM key; install one that is") from None


def _load_cas(context: ssl.SSLContext, path: Path, now: dt.datetime) -> None:
    cas = certificates.load_all(path, "CA bundle")
    if not all(certificates.is_ca(each) for each in cas):
        raise OperatorError(
            f"CA bundle {path} holds a certificate that is not of a CA; take it out"
        )
    if all(each.not_valid_after_utc <= now for each in cas):
        _check_validity(cas[0], f"CA bundle {path}", now)
    context.load_verify_locations(path)
    context.verify_mode = ssl.CERT_REQUIRED


def _check_validity(certificate: x509.Certificate, what: str, now: dt.datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        day = certificate.not_valid_after_utc.date()
        raise OperatorError(f"{what} expired on {day}; install a new one")
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc.isoformat()
        raise OperatorError(
            f"{what} is not valid before {start}; set the clock or install a new one"
        )
