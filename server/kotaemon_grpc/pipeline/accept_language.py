"""Which of the languages that there are a caller reads best (RFC 9110, section 12.5.4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_HEADER_CHARS = 1024
"""A longer `accept-language` is not read; browsers send less than 100."""

_ANY = "*"
# A language range (RFC 4647, section 2.1) and its weight (RFC 9110, section 12.4.2).
_ELEMENT = re.compile(
    r"(?P<primary>[A-Za-z]{1,8}|\*(?!-))(?:-[A-Za-z0-9]{1,8})*"
    r"(?:[ \t]*;[ \t]*[qQ]=(?P<weight>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?"
)


def best_language(header: str, offered: Sequence[str]) -> str:
    """Choose one of the offered languages.

    Only the primary subtag counts: who asks for `zh-Hant` or `zh-TW` gets `zh`. Among
    equal weights a language that is named comes before one that only `*` allows, and
    then what is named first.

    Args:
        header: the value of `accept-language`; "" for none.
        offered: primary subtags in lower case; the first is for everybody else.

    Returns:
        One of `offered`: the first if the header is malformed, too long, or allows none.
    """
    weights = _weights(header)
    named = list(weights)

    def weight(language: str) -> float:
        return weights.get(language, weights.get(_ANY, 0.0))

    def rank(language: str) -> tuple[float, int]:
        place = named.index(language) if language in weights else len(named)
        return weight(language), -place

    allowed = [language for language in offered if weight(language) > 0]
    return max(allowed, key=rank, default=offered[0])


def _weights(header: str) -> dict[str, float]:
    """Return the weight of each primary subtag, in the order of the header."""
    if len(header) > MAX_HEADER_CHARS:
        return {}
    weights: dict[str, float] = {}
    for element in header.split(","):
        stripped = element.strip(" \t")
        if not stripped:  # a list may have empty elements (RFC 9110, section 5.6.1)
            continue
        match = _ELEMENT.fullmatch(stripped)
        if match is None:
            return {}
        primary = match["primary"].lower()
        weights[primary] = max(weights.get(primary, 0.0), float(match["weight"] or 1))
    return weights
