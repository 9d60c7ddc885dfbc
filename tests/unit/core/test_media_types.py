from __future__ import annotations

import pytest

from kotaemon_grpc.core.media_types import ENDINGS, MEDIA_TYPES, media_type_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.md", "text/markdown"),
        ("A.MARKDOWN", "text/markdown"),
        ("b.txt", "text/plain"),
        ("b.text", "text/plain"),
        ("/a.md/b.text", "text/plain"),
        ("/a.md/b", None),
        ("b.pdf", None),
        ("md", None),
        ("", None),
    ],
)
def test_the_ending_tells_the_type(name: str, expected: str | None) -> None:
    assert media_type_of(name) == expected


def test_every_type_has_an_ending() -> None:
    assert set(ENDINGS.values()) == set(MEDIA_TYPES)
