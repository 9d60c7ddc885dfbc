"""Waiting for a state, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LOOK_EVERY_S = 0.05


def until(what: str, look: Callable[[], T | None], limit_s: float) -> T:
    """Look until there is something to see, and return it.

    Args:
        what: what is waited for, as in "the pod is ready".
        look: returns None or False while it is not there.
        limit_s: how long to look at most.

    Raises:
        AssertionError: it did not come in time.
    """
    deadline_s = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(LOOK_EVERY_S)
