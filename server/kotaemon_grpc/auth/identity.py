"""Who calls, as verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kotaemon_grpc.core.caller import Caller

CERTIFICATE: Final = "certificate"
JWT: Final = "jwt"
API_KEY: Final = "api_key"
NONE: Final = "none"

Credential: TypeAlias = Literal[
    "certificate", "jwt", "api_key", "certificate+jwt", "certificate+api_key"
]
"""What a listener over TLS may accept as proof of who calls."""

CREDENTIALS = frozenset({*get_args(Credential), NONE})
"""What any listener may accept."""

ANONYMOUS = "anonymous"
"""The principal of a caller that shows nothing, where nothing is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A caller whose credentials were verified.

    Args:
        principal: its name: `spiffe://…`, `dns:…`, `uri:…`, `email:…`, `cn:…`,
            `<issuer>:<subject>`, `key:…`, `anonymous`, or what a rule makes of it.
        tenant: the tenant it belongs to; matches `RESOURCE_ID`.
        roles: those that the credential itself grants.
        credential: what it was proven with, one of `CREDENTIALS`.
        expires_at: until when that holds, in seconds since the Unix epoch; infinite if
            it always does.
        callers: what it may see in each method, as far as that was asked for.
    """

    principal: str
    tenant: str
    roles: frozenset[str]
    credential: str
    expires_at: float
    callers: dict[str, Caller] = field(default_factory=dict, repr=False)


def kinds(credentials: Iterable[str]) -> frozenset[str]:
    """Tell what callers have to show for any of some credentials: what `+` puts together, apart."""
    return frozenset(kind for each in credentials for kind in each.split("+"))
