from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.errors import InvalidArgument, StorageUnavailable
from kotaemon_grpc.documents.parser import TextParser, parse_text
from kotaemon_grpc.documents.passages import MAX_PASSAGE_CHARS, PASSAGE_CHARS

if TYPE_CHECKING:
    from pathlib import Path

MARKDOWN = """---
title: hidden
---
# The *Great* [Guide](url)

Intro
wrapped. 🚢

<!-- a comment -->

## Use `it`
- one
- two

```sh
# no heading
```

| a | b |
|---|---|
| 1 | 2 |

Deep
----

> quoted

# 其他
最后。
"""


def test_markdown_becomes_passages_under_their_headings() -> None:
    document = parse_text(MARKDOWN, "text/markdown")
    assert document.title == "The Great Guide"
    assert [(p.location.headings, p.text[:5], p.text[-5:]) for p in document.passages] == [
        (("The Great Guide",), "Intro", "ed. 🚢"),
        (("The Great Guide", "Use it"), "- one", "| 2 |"),
        (("The Great Guide", "Deep"), "> quo", "uoted"),
        (("其他",), "最后。", "最后。"),
    ]


@pytest.mark.parametrize("mime_type", ["text/markdown", "text/plain"])
@pytest.mark.parametrize(
    "text",
    [
        MARKDOWN,
        MARKDOWN.replace("\n", "\r\n"),
        MARKDOWN.replace("\n", "\r"),
        "x" * 50_000,
        "春天来了。" * 9000,
        "- item\n" * 9000,
        "```\n" + "code = 1\n" * 9000,
        "paragraph of words\n\n" * 9000,
        "# only\n## headings",
        "---\nnot: closed",
        "[a]: b",
        "<!-- only a comment -->",
        "\n\n  indented 🎉\n\n",
        "a\x0bb\x0cc\u2028d\x85e\n\n# f\n\ng",
    ],
)
def test_passages_are_exact_slices_in_order_and_bounded(text: str, mime_type: str) -> None:
    passages = parse_text(text, mime_type).passages
    assert passages
    at = 0
    for passage in passages:
        place = passage.location
        assert at <= place.start < place.end <= len(text)
        assert text[place.start : place.end] == passage.text
        assert passage.text.strip()
        assert len(passage.text) <= MAX_PASSAGE_CHARS
        at = place.end


def test_a_long_paragraph_stays_whole_and_a_longer_one_is_cut_at_sentences() -> None:
    sentence = "The ferry sails at noon. "
    whole = sentence * (4200 // len(sentence))
    assert len(parse_text(whole, "text/plain").passages) == 1
    cut = parse_text(sentence * 400, "text/plain").passages
    assert all(p.text.endswith("noon.") and len(p.text) <= PASSAGE_CHARS for p in cut)


def test_short_paragraphs_are_put_together() -> None:
    text = "\n\n".join(f"Paragraph {n} of some words." for n in range(10))
    assert len(parse_text(text, "text/plain").passages) == 1


def test_a_large_document_keeps_its_headings_and_its_code() -> None:
    section = "## Part\n\ntext\n\n```\n\n# code\n\n```\n\n"
    text = "# Top\n\n" + section * 3000
    passages = parse_text(text, "text/markdown").passages
    assert len(passages) == 3000
    assert {p.location.headings for p in passages} == {("Top", "Part")}


async def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes("\ufeff# Title\r\n\r\nText.".encode())
    document = await TextParser().parse(path, "text/markdown")
    assert (document.title, document.passages[0].text) == ("Title", "Text.")
    assert document.passages[0].location.start == len("# Title\r\n\r\n")


async def test_a_binary_and_an_unknown_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "spool.md"
    path.write_bytes(b"\x00\x01")
    with pytest.raises(InvalidArgument):
        await TextParser().parse(path, "text/markdown")
    path.write_bytes(b"text")
    with pytest.raises(InvalidArgument):
        await TextParser().parse(path, "application/pdf")


async def test_a_file_that_is_gone_is_a_fault_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        await TextParser().parse(tmp_path / "gone", "text/plain")


@pytest.mark.parametrize(
    "text",
    [
        "- a\n" * 20_000,
        "a|a|" * 20_000 + "\n" + "-|-|" * 20_000 + "\n",
        "# " + "[" * 400 + "\n\n",
        ">" * 8_000 + "a\n" + "b\n\n" * 2_000,
    ],
)
def test_markdown_that_would_take_a_parser_for_long_is_read_as_plain_text(text: str) -> None:
    parsed = parse_text(text * (1 + 80_000 // len(text)), "text/markdown")
    assert all(passage.location.headings == () for passage in parsed.passages[1:])


def test_markdown_above_the_limit_is_read_as_plain_text() -> None:
    text = "# Top\n\n" + "Some words that make a line of text.\n\n" * 120_000
    assert parse_text(text, "text/markdown").passages[-1].location.headings == ()
    assert parse_text(text[: len(text) // 2], "text/markdown").passages[-1].location.headings


def test_a_heading_is_cut_to_what_its_passages_can_carry() -> None:
    (passage,) = parse_text(f"# {'long ' * 100}\n\nText.", "text/markdown").passages
    assert len(passage.location.headings[0]) == 120


def test_what_stands_beside_a_comment_is_text() -> None:
    text = "<!-- one --> <!-- two -->\n\n<!-- no --> The code is 4711.\n"
    (passage,) = parse_text(text, "text/markdown").passages
    assert "The code is 4711." in passage.text
