"""What issuers, tenants and algorithms may be called. The settings are held to the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, get_args

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.core.model import RESOURCE_ID

if TYPE_CHECKING:
    from collections.abc import Collection

Algorithm: TypeAlias = Literal["RS256", "ES256", "EdDSA"]
"""RFC 7518, section 3.1, and RFC 8037, section 3.1: none of them has a secret to share."""

ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

RESERVED_NAMES = frozenset(
    {"anonymous", "cn", "dns", "email", "http", "https", "key", "spiffe", "uri"}
)
"""What the names of other principals begin with: an issuer must not be able to give them."""

_ISSUER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)


class Issuing(Protocol):
    """What tells issuers apart."""

    @property
    def name(self) -> str:
        """What the names of its principals begin with."""

    @property
    def issuer(self) -> str:
        """The claim `iss` of its tokens."""


def check_issuer_name(name: str) -> None:
    """Check what an issuer is called.

    Raises:
        OperatorError: it is no name, or one that others' begin with.
    """
    if not _ISSUER_NAME.fullmatch(name) or name in RESERVED_NAMES:
        raise OperatorError(
            "the name of an issuer has lower-case letters, digits and dashes, at most 32 from a "
            f"letter on, and is none of {', '.join(sorted(RESERVED_NAMES))}"
        )


def check_issuers(issuers: Collection[Issuing]) -> None:
    """Check that issuers can be told apart.

    Raises:
        OperatorError: two of them have the same name or claim.
    """
    if len({each.name for each in issuers}) < len(issuers):
        raise OperatorError("two issuers have the same name")
    if len({each.issuer for each in issuers}) < len(issuers):
        raise OperatorError("two issuers have the same claim iss")


def check_algorithms(algorithms: Collection[str]) -> None:
    """Check what an issuer may sign with.

    Raises:
        OperatorError: there is none, or one that is none of `ALGORITHMS`.
    """
    if not algorithms or not set(ALGORITHMS).issuperset(algorithms):
        raise OperatorError(f"the algorithms are one or more of {', '.join(ALGORITHMS)}")


def check_tenant(tenant: str) -> None:
    """Check a tenant of the settings.

    Raises:
        OperatorError: it is no valid id.
    """
    if not RESOURCE_ID.fullmatch(tenant):
        raise OperatorError(
            "a tenant has lower-case letters, digits, dots, dashes and underscores, at most 63 "
            "from a letter or digit on"
        )


def compiled(pattern: str) -> re.Pattern[str]:
    """Read a pattern for the names of certificates.

    Raises:
        OperatorError: it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise OperatorError(f"it is no regular expression: {error}") from None
