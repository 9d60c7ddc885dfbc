"""The TLS material of the server, checked before gRPC sees it: core would only log a fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import certificate as certificates
from kotaemon_grpc.transport import keyfiles
from kotaemon_grpc.transport.certificate import Usage, utc_now

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from kotaemon_grpc.transport.certificate import Clock


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about files that are no good, as the ends of sentences.

    Args:
        renew: about a certificate or a key that cannot be used.
        pair: about a key that is not that of the certificate.
        unlock: about a key that is encrypted, with no passphrase given.
        missing: about a file that is not there.
    """

    renew: str
    pair: str
    unlock: str
    missing: str = keyfiles.MEND


INSTALLED = Advice(
    renew="install a new one",
    pair="install the two that belong together",
    unlock="set tls.key_passphrase",
)
DEVELOPMENT = Advice(
    renew='run "kotaemon-grpc certs init" or install a new one',
    pair='install the two that belong together or run "kotaemon-grpc certs init"',
    unlock=INSTALLED.unlock,
    missing=keyfiles.INIT,
)
"""About the files of the development PKI, which that command makes."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a TLS listener needs, all PEM.

    Args:
        certificate: the server's, with intermediates after it.
        key: its private key, not encrypted.
        client_ca: the CAs that clients' certificates must come from; empty if none are
            asked for.
        certificates: what each file holds.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes
    certificates: Mapping[Path, tuple[x509.Certificate, ...]]

    @property
    def expiries(self) -> dict[Path, dt.datetime]:
        """For each file when its first certificate to expire does."""
        return {
            path: min(each.not_valid_after_utc for each in chain)
            for path, chain in self.certificates.items()
        }


def load(
    certificate: Path,
    key: Path,
    client_ca: Path | None,
    *,
    passphrase: str = "",
    clock: Clock = utc_now,
    advice: Advice = INSTALLED,
) -> Material:
    """Read the server's TLS files and check that they work together.

    Args:
        certificate: the server's certificate, with intermediates after it.
        key: its private key.
        client_ca: the bundle of the CAs that clients' certificates must come from; None
            if the listener asks for none.
        passphrase: of the key, if it is encrypted.
        clock: the present time.
        advice: what errors tell the operator to do.

    Raises:
        OperatorError: a file is missing, cannot be read or is not what it should
            be; a certificate is not valid now; key and certificate do not match.
    """
    chain = certificates.load_all(certificate, advice=advice.missing)
    for each in chain:
        _check_validity(each, f"certificate {certificate}", clock(), advice)
    if not certificates.allows(chain[0], Usage.SERVER):
        raise OperatorError(f"certificate {certificate} is not made for servers; {advice.renew}")
    private_key = _load_key(key, passphrase, advice)
    if private_key.public_key() != chain[0].public_key():
        raise OperatorError(f"key {key} does not match certificate {certificate}; {advice.pair}")
    cas = _load_cas(client_ca, clock(), advice) if client_ca else []
    found = {certificate: tuple(chain)}
    if client_ca:
        found[client_ca] = tuple(cas)
    return Material(
        certificate=b"".join(_pem(each) for each in chain),
        key=private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        client_ca=b"".join(_pem(each) for each in cas),
        certificates=found,
    )


def _load_cas(path: Path, now: dt.datetime, advice: Advice) -> list[x509.Certificate]:
    cas = certificates.load_all(path, "CA bundle", advice.missing)
    if not all(certificates.is_ca(each) for each in cas):
        raise OperatorError(
            f"CA bundle {path} holds a certificate that is not of a CA; take it out"
        )
    valid = [each for each in cas if each.not_valid_after_utc > now]
    if not valid:
        _check_validity(cas[0], f"CA bundle {path}", now, advice)
    return valid or cas


def _load_key(path: Path, passphrase: str, advice: Advice) -> PrivateKeyTypes:
    pem = keyfiles.read(path, "key", advice.missing)
    try:
        return serialization.load_pem_private_key(pem, passphrase.encode() or None)
    except TypeError:
        wrong = "is not encrypted; remove tls.key_passphrase"
        if not passphrase:
            wrong = f"is encrypted; {advice.unlock}"
        raise OperatorError(f"key {path} {wrong}") from None
    except ValueError:
        # Both are told alike by the library; its own words may quote the file.
        wrong = "is not a PEM key, or the passphrase is wrong" if passphrase else "is not a PEM key"
        raise OperatorError(f"key {path} {wrong}; {advice.renew}") from None


def _check_validity(
    certificate: x509.Certificate, what: str, now: dt.datetime, advice: Advice
) -> None:
    if now >= certificate.not_valid_after_utc:
        day = certificate.not_valid_after_utc.date()
        raise OperatorError(f"{what} expired on {day}; {advice.renew}")
    if now < certificate.not_valid_before_utc:
        start = certificate.not_valid_before_utc.isoformat()
        raise OperatorError(f"{what} is not valid before {start}; set the clock or {advice.renew}")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
