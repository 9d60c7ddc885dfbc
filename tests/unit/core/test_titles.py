from __future__ import annotations

import pytest

from kotaemon_grpc.core.titles import title_from


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        (" \n\0", ""),
        ("one", "one"),
        ("  one\n\ttwo ", "one two"),
        ("a\x00b\x85c\x1b[1m", "a b c [1m"),
        ("ten chars, and more", "ten chars,"),
        ("ten chars and more", "ten chars"),
    ],
)
def test_a_title_is_one_line_without_controls(text: str, title: str) -> None:
    assert title_from(text, 10) == title
