"""Patterns of names, in which `*` stands for any characters and all else for itself."""

from __future__ import annotations

import re
from functools import lru_cache

_MAX_KEPT = 1024  # of configurations with more, some are compiled again


def matches(name: str, pattern: str) -> bool:
    """Tell whether a pattern matches the whole of a name, upper and lower case told apart."""
    return pattern == "*" or _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=_MAX_KEPT)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
