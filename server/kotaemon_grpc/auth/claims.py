"""What is read from the claims of a token whose signature is good."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kotaemon_grpc.core.errors import CredentialProblem, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Plain: TypeAlias = str | int | float | bool
Wanted: TypeAlias = "Plain | Sequence[Plain]"
"""What a claim must be: a value, one of several, or, if these are none, anything."""

_MAX_SECONDS = 2**53  # beyond it JSON's numbers have no single seconds


def claim(claims: object, path: str) -> object:
    """Return a claim, None if there is none.

    Args:
        claims: all claims, or those inside one.
        path: its name, or the names of those it is in before it, as
            `realm_access.roles`. A name may itself have dots, as those that are URLs do.
    """
    if not isinstance(claims, dict):
        return None
    if path in claims:
        return claims[path]
    head, dot, rest = path.partition(".")
    return claim(claims.get(head), rest) if dot else None


def satisfies(claims: Mapping[str, object], path: str, wanted: Wanted) -> bool:
    """Tell whether a claim is there and is what it must be; of a list, whether one is."""
    found = claim(claims, path)
    if found is None:
        return False
    allowed = wanted if isinstance(wanted, list | tuple) else [wanted]
    values = found if isinstance(found, list) else [found]
    return not allowed or any(
        type(value) is type(each) and value == each for value in values for each in allowed
    )


def words(value: object) -> list[str]:
    """Read a claim that is a list, or text with spaces between (RFC 8693, section 4.2)."""
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def seconds(claims: Mapping[str, object], name: str) -> float | None:
    """Read a NumericDate (RFC 7519, section 2), None if there is none.

    Raises:
        Unauthenticated: it is no number of seconds.
    """
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_SECONDS:
        return float(value)
    raise Unauthenticated(CredentialProblem.MALFORMED, "times")
