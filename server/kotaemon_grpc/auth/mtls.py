"""Who calls, by the certificate that the listener verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANONYMOUS = "anonymous"
_NAMES = ("peer_spiffe_id", "x509_subject_alternative_name", "x509_common_name")
"""The properties of gRPC's auth context that may name a peer, the most trusted first."""


def caller_of(auth_context: Mapping[str, Iterable[bytes]]) -> Caller:
    """Name the caller.

    Args:
        auth_context: what `grpc.aio.ServicerContext.auth_context()` returns: empty on
            a plaintext listener.

    Returns:
        The SPIFFE ID of its certificate, else its first alternative name, else its
        common name, else "anonymous". All callers are of one tenant.
    """
    for key in _NAMES:
        for name in auth_context.get(key, ()):
            if name:
                return Caller(name.decode(errors="replace"))
    return Caller(ANONYMOUS)
