"""What operators are told of certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from kotaemon_grpc.transport.operations import Row, Section, State
from kotaemon_grpc.transport.pki import RENEW_BELOW

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from kotaemon_grpc.telemetry.metrics import Metrics
    from kotaemon_grpc.transport.tls import Material


def tell_expiries(metrics: Metrics, material: Material) -> None:
    """Say, for each file of TLS, when its first certificate expires."""
    for path, expires in material.expiries.items():
        metrics.set_certificate_expiry(str(path), expires)


def certificate_section(
    files: Mapping[Path, Sequence[x509.Certificate]], now: dt.datetime
) -> Section:
    """Make the section of the certificates in use.

    Args:
        files: the certificates that each file had when it was loaded, at least one.
        now: the present time.
    """
    rows = tuple(_row(path, chain, now) for path, chain in files.items())
    return Section("Certificates", ("File", "Names", "Expires (UTC)", "Days left"), rows)


def _row(path: Path, chain: Sequence[x509.Certificate], now: dt.datetime) -> Row:
    first = min(chain, key=lambda each: each.not_valid_after_utc)
    end = first.not_valid_after_utc
    left = end - now
    if now >= end:
        left_text, state = "expired", State.BAD
    elif any(now < each.not_valid_before_utc for each in chain):
        left_text, state = "not valid yet", State.BAD
    else:
        is_due = left < (end - first.not_valid_before_utc) * RENEW_BELOW
        left_text, state = str(left.days), State.WARN if is_due else State.OK
    names = ", ".join(_names(chain[0]))
    return Row((str(path), names, f"{end:%Y-%m-%d %H:%M}", left_text), state)


def _names(certificate: x509.Certificate) -> list[str]:
    """Give the names that peers look at, or else the subject."""
    try:
        sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [certificate.subject.rfc4514_string()]
    return [
        str(value)
        for kind in (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier)
        for value in sans.get_values_for_type(kind)
    ]
