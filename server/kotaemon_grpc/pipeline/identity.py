"""Who calls: the guard that asks the listener's authenticator."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.auth.authenticator import Authenticator
    from kotaemon_grpc.pipeline.call import Call, Method


class Identification:
    """The guard."""

    def __init__(self, authenticator: Authenticator) -> None:
        """Take what knows the credentials that the listener accepts."""
        self._authenticator = authenticator

    def admission(self, _method: Method) -> Callable[[Call], None]:
        """Make what finds out who calls; raises `Unauthenticated` or `TlsTooOld`."""
        return self._admit

    def _admit(self, call: Call) -> None:
        context, metadata = call.servicer_context, call.metadata
        peer, certified = context.peer(), context.peer_identities() or ()
        identity = self._authenticator.recall(peer, certified, metadata)
        if identity is None:
            identity = self._authenticator.identify(context.auth_context(), metadata)
            self._authenticator.remember(peer, certified, metadata, identity)
        call.identity = identity
