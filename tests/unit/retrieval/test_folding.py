# ruff: noqa: RUF001 - Chinese punctuation is what this is about
from __future__ import annotations

import pytest

from kotaemon_grpc.retrieval.folding import fold, separator


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("  a\r\n  b\tc ", "a b c"),
        ("春天\r\n来了，\n　好", "春天来了，好"),
        ("用\ngRPC\n调用", "用 gRPC 调用"),
        ("春 天", "春 天"),
    ],
)
def test_white_space_is_folded(text: str, expected: str) -> None:
    assert fold(text) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "A.", ""),
        ("A.", "B.", " "),
        ("好。", "坏。", ""),
        ("“好。”", "坏", ""),
        ("好。", "B", " "),
    ],
)
def test_sentences_are_joined_by_their_script(before: str, after: str, expected: str) -> None:
    assert separator(before, after) == expected
