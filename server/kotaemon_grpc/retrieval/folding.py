"""White space in text that is shown: one space, or none between CJK characters."""

from __future__ import annotations

import re

from kotaemon_grpc.retrieval.analysis import CJK

_WIDE = rf"[{CJK}\u3001-\u303f\uff01-\uff65]"
_BREAK_IN_CJK = re.compile(rf"(?<={_WIDE})[ \t\r]*\n\s*(?={_WIDE})")
_STARTS_WIDE = re.compile(_WIDE)
_ENDS_WIDE = re.compile(rf"(?:{_WIDE}|[”’…])\Z")  # noqa: RUF001 - Chinese quotation marks


def fold(text: str) -> str:
    """Return a text on one line, without white space around it.

    A line break between CJK characters folds to nothing, any other run of white
    space to one space.
    """
    return " ".join(_BREAK_IN_CJK.sub("", text).split())


def separator(before: str, after: str) -> str:
    """Return what stands between two sentences: nothing in CJK text, or else a space."""
    wide = _STARTS_WIDE.match(after[:1]) and _ENDS_WIDE.search(before[-1:])
    return "" if wide or not before else " "
