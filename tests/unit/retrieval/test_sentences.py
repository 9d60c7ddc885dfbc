# ruff: noqa: RUF001 - Chinese punctuation is what this is about
from __future__ import annotations

import pytest

from kotaemon_grpc.retrieval.sentences import MAX_SENTENCE_CHARS, Kind, sentences


def split(text: str) -> list[str]:
    return [text[s.start : s.end] for s in sentences(text)]


@pytest.mark.parametrize(
    "parts",
    [
        ["Dr. J. R. R. Tolkien met Mr. Lewis.", "They talked."],
        ["It costs 3.5 pounds, e.g. in the U.S. Army.", "So there."],
        ["See Fig. 5 and No. 7 on p. 3.", "No.", "Then go."],
        ['"Stop!" he said.', '"Why?"', "(He stopped.)", "Good."],
        ["He lived in the U.S.", "The end came in 1990.", "It rained."],
        ["What?!", "Yes..."],
        ["a wing in a slipstream .", "the study was made ."],
        ["A line that was\nwrapped here.", "Another\r\none."],
    ],
)
def test_english_sentences_end_where_they_should(parts: list[str]) -> None:
    assert split(" ".join(parts)) == parts


@pytest.mark.parametrize(
    "parts",
    [
        ["你好。", "“我来了！”", "他说：“走吧。”", "真的？！", "第一；", "第二"],
        ["版本3.5发布了。", "Hello世界!", "真的吗?", "是的"],
    ],
)
def test_chinese_sentences_end_where_they_should(parts: list[str]) -> None:
    assert split("".join(parts)) == parts


def test_a_sentence_never_reaches_across_blocks() -> None:
    text = (
        "# A title\nprose\n- one\n- two\n  goes on\n\n1. first\n"
        "```sh\nmake. It\n```\nafter\n| a. B | c |\n|---|---|\n***\nUnder\n-----\n> quoted\n"
    )
    assert [(text[s.start : s.end], s.kind) for s in sentences(text)] == [
        ("A title", Kind.HEADING),
        ("prose", Kind.PROSE),
        ("one", Kind.PROSE),
        ("two\n  goes on", Kind.PROSE),
        ("first", Kind.PROSE),
        ("make. It", Kind.CODE),
        ("after", Kind.PROSE),
        ("a. B | c", Kind.TABLE),
        ("Under", Kind.HEADING),
        ("quoted", Kind.PROSE),
    ]


@pytest.mark.parametrize("text", ["", " \n\r\n ", "```\n```", "---\n", "|---|\n"])
def test_what_says_nothing_has_no_sentences(text: str) -> None:
    assert split(text) == []


@pytest.mark.parametrize("text", ["🚢 sails. 🎉", "x" * 9999, "word " * 900, ". " * 99, "\r\r.\r"])
def test_sentences_are_in_order_without_overlap_and_trimmed(text: str) -> None:
    at = 0
    for s in sentences(text):
        assert at <= s.start < s.end <= len(text)
        assert s.end - s.start <= MAX_SENTENCE_CHARS
        assert text[s.start : s.end] == text[s.start : s.end].strip()
        at = s.end
    assert "".join(split(text)).replace(" ", "") == "".join(text.split()).replace(" ", "")
