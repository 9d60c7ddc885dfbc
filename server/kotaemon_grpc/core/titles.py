"""Titles: a line of text for people."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""All of the Unicode category Cc, which never grows (Unicode Standard, section 4.5)."""


def has_controls(text: str) -> bool:
    """Tell whether a text has control characters, which no title may have."""
    return _CONTROLS.search(text) is not None


def title_from(text: str, max_chars: int) -> str:
    """Make a title of the start of a text: without controls, white space folded."""
    return " ".join(_CONTROLS.sub(" ", text).split())[:max_chars].rstrip()
