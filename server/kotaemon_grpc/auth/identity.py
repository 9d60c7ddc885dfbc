"""Who calls, as verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kotaemon_grpc.core.caller import Caller

CERTIFICATE = "certificate"
JWT = "jwt"
API_KEY = "api_key"
CERTIFICATE_AND_JWT = "certificate+jwt"
CERTIFICATE_AND_API_KEY = "certificate+api_key"
NONE = "none"

CREDENTIALS = frozenset(
    {CERTIFICATE, JWT, API_KEY, CERTIFICATE_AND_JWT, CERTIFICATE_AND_API_KEY, NONE}
)
"""What a listener may accept as proof of who calls."""

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
