"""TLS of the operations port, upon the same checks of its files as those of listeners."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.transport import tls
from kotaemon_grpc.transport.certificate import utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from kotaemon_grpc.transport.certificate import Clock

_ADVICE = tls.Advice(
    renew="install a new one",
    pair="install the two that belong together",
    unlock="name one that is not in operations.key",
)


class ServerTLS(NamedTuple):
    """What the operations port serves TLS with, and what that was made of."""

    context: ssl.SSLContext
    material: tls.Material


def server_tls(
    certificate: Path, key: Path, client_ca: Path | None = None, *, clock: Clock = utc_now
) -> ServerTLS:
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
            be; a certificate is not valid now; key and certificate do not match, or
            are too weak.
    """
    material = tls.load(certificate, key, client_ca, clock=clock, advice=_ADVICE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # It takes no bytes. Without a password it would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise OperatorError(
            f"certificate {certificate} and key {key} cannot be used: {error.reason}; "
            "install new ones"
        ) from None
    if material.client_ca:
        context.load_verify_locations(cadata=material.client_ca.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return ServerTLS(context, material)
