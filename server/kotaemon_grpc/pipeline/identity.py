"""Who calls: the guard that asks the listener's authenticator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kotaemon_grpc.auth.authenticator import Authenticator
    from kotaemon_grpc.pipeline.call import Call, Method


class Identification:
    """The guard."""

    def __init__(
        self, authenticator: Authenticator, on_verified: Callable[[str, str], None]
    ) -> None:
        """Take what knows the credentials that the listener accepts.

        Args:
            authenticator: knows them.
            on_verified: is told the version of TLS and the group of the key exchange, as
                core names them, of a connection whose credentials were not known yet.
        """
        self._authenticator = authenticator
        self._on_verified = on_verified

    def admission(self, _method: Method) -> Callable[[Call], None]:
        """Make what finds out who calls; raises `Unauthenticated` or `TlsTooOld`."""
        return self._admit

    def _admit(self, call: Call) -> None:
        context, metadata = call.servicer_context, call.metadata
        peer, certified = context.peer(), context.peer_identities() or ()
        identity = self._authenticator.recall(peer, certified, metadata)
        if identity is None:
            auth_context = context.auth_context()
            identity = self._authenticator.identify(auth_context, metadata)
            self._authenticator.remember(peer, certified, metadata, identity)
            if not identity.callers:  # nobody has asked yet what it may do: it is new
                self._on_verified(
                    _first(auth_context.get("ssl_tls_version")),
                    _first(auth_context.get("ssl_negotiated_key_exchange_group")),
                )
        call.identity = identity


def _first(values: Sequence[bytes] | None) -> str:
    return values[0].decode(errors="replace") if values else ""
