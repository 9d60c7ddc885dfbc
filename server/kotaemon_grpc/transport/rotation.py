"""The TLS of a listener whose files are replaced while it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from cryptography import x509

from kotaemon_grpc.transport import certificate as certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kotaemon_grpc.transport.tls import Material

_MAX_CHAIN = 10  # certificates between a leaf and its root; real ones have one or two


class Rotation:
    """Has every handshake use the present files, and tells who is still trusted by them.

    Connections that are open stay as they are. gRPC asks for the files at each handshake,
    on threads of its own and one at a time for a listener.

    Args:
        material: returns what the last good files held; must not block or raise.
    """

    def __init__(self, material: Callable[[], Material]) -> None:
        self._material = material
        self._used = material()
        self._first_cas = self._used.client_ca
        self._used_other_cas = False
        self._anchored: tuple[Material, Sequence[x509.Certificate]] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Make the credentials of the listener.

        Clients have to show a certificate if there is a CA for them. If they need not,
        core never hands one on that they show.
        """
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._used),
            self._next,
            require_client_authentication=bool(self._used.client_ca),
        )

    def trusts(self, leaf: bytes, others: bytes) -> bool:
        """Tell whether the present CAs would still let a client in that they, or others, did.

        TLS has checked all else as the connection was opened. Asked on the event loop.

        Args:
            leaf: the client's certificate, PEM.
            others: those that the client showed beside it, PEM; empty if none.
        """
        if not self._used_other_cas and self._material().client_ca == self._first_cas:
            return True  # there have never been others: TLS has looked
        try:
            present = x509.load_pem_x509_certificate(leaf)
            chain = x509.load_pem_x509_certificates(others) if others else []
        except ValueError:
            return False
        anchors = self._anchors()
        between = [each for each in chain if certificates.is_ca(each)][:_MAX_CHAIN]
        while not any(certificates.issued_by(present, anchor) for anchor in anchors):
            issuers = [each for each in between if certificates.issued_by(present, each)]
            if not issuers:
                return False
            present = issuers[0]
            between.remove(present)
        return True

    def _anchors(self) -> Sequence[x509.Certificate]:
        """Return the present CAs; to read them takes longer than all else about a caller."""
        material = self._material()
        if self._anchored is None or self._anchored[0] is not material:
            self._anchored = material, x509.load_pem_x509_certificates(material.client_ca)
        return self._anchored[1]

    def _next(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what handshakes are to use from now on; None if that is what they do."""
        material = self._material()
        if material is self._used:
            return None
        self._used = material
        if material.client_ca != self._first_cas:
            self._used_other_cas = True
        return _configuration(material)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca or None
    )
