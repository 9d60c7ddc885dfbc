"""What a log may tell of an exception: types and places, never its own words.

The words of an exception may hold what a user wrote, or a secret.
"""

from __future__ import annotations

import traceback


def without_words(error: BaseException | None) -> list[dict[str, object]]:
    """Describe an exception, and behind it what it was raised from, each once.

    Returns:
        For each its `type` and its `frames`, the outermost first, as
        `file:line function`.
    """
    chain: list[dict[str, object]] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        chain.append(
            {
                "type": f"{type(error).__module__}.{type(error).__qualname__}",
                # Of the code's places alone: its lines would be read from files.
                "frames": [
                    f"{frame.f_code.co_filename}:{line} {frame.f_code.co_name}"
                    for frame, line in traceback.walk_tb(error.__traceback__)
                ],
            }
        )
        error = error.__cause__ or error.__context__
    return chain
