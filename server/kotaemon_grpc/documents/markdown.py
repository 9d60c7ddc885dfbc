"""Markdown as blocks with the headings above them (CommonMark, and tables)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from kotaemon_grpc.core.limits import MAX_TITLE_CHARS
from kotaemon_grpc.documents.blocks import Block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

SEGMENT_CHARS = 32 * 1024
"""A text is parsed in parts of about this size, so that memory stays bounded."""

MAX_LINE_CHARS = 16 * 1024
"""A longer line is taken as a paragraph, unparsed."""

_MAX_DENSE_CHARS = 4 * 1024
_MIN_LINE_CHARS = 6
_MAX_SHARES = {"|": 2 / 5, "[": 1 / 2, ">": 1 / 4, "-": 1 / 2}
"""What marks may take of a part that is longer than that, for it to be parsed.

Worst cases took 5 to 15 seconds a megabyte.
"""

_MAX_HEADING_CHARS = 120
"""A heading is repeated with each passage below it: a longer one is cut."""

_COMMENTS = re.compile(r"\s*(?:<!--(?:(?!-->).)*-->\s*)+", re.DOTALL)
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?:.*\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_MAX_FRONT_MATTER_CHARS = 16 * 1024


class MarkdownReader:
    """Reads one document; not for use by several threads at once.

    `title` is the first heading met so far, or empty.
    """

    def __init__(self) -> None:
        self.title = ""
        self._section = 0
        self._headings: dict[int, str] = {}  # by level
        # The text of paragraphs is used as it stands, so inline rules need not run.
        self._parser = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])
        self._inline = MarkdownIt("commonmark")

    def blocks(self, text: str) -> Iterator[Block]:
        """Give the blocks of a text in order. Front matter, comments and rules are none."""
        for start, end in _segments(text):
            segment = text[start:end]
            if _is_long_line(segment) or _is_dense(segment):
                yield Block(self._section, self._path(), start, end)
            else:
                yield from self._parsed(segment, start)

    def _parsed(self, segment: str, offset: int) -> Iterator[Block]:
        starts = [m.start() for m in _LINE.finditer(segment)]
        starts.append(len(segment))
        tokens = self._parser.parse(segment)
        for number, token in enumerate(tokens):
            if token.level or token.map is None:
                continue
            if token.type == "heading_open":
                self._enter(int(token.tag[1:]), self._text_of(tokens[number + 1]))
                continue
            start, end = (starts[min(line, len(starts) - 1)] for line in token.map)
            content = segment[start:end]
            if token.type == "hr" or _COMMENTS.fullmatch(content):
                continue
            # The first line keeps its indentation: in code it has a meaning.
            end -= len(content) - len(content.rstrip())
            if start < end:
                yield Block(self._section, self._path(), offset + start, offset + end)

    def _enter(self, level: int, heading: str) -> None:
        self._section += 1
        kept = {at: h for at, h in self._headings.items() if at < level}
        self._headings = kept | ({level: heading[:_MAX_HEADING_CHARS]} if heading else {})
        self.title = self.title or heading

    def _path(self) -> tuple[str, ...]:
        return tuple(self._headings.values())

    def _text_of(self, heading: Token) -> str:
        """Return a heading's words without their markup."""
        (inline,) = self._inline.parseInline(heading.content[:MAX_TITLE_CHARS])
        words = "".join(
            " " if t.type in ("softbreak", "hardbreak") else t.content
            for t in inline.children or ()
            if t.type != "html_inline"
        )
        return " ".join(words.split())[:MAX_TITLE_CHARS]


def _is_dense(segment: str) -> bool:
    """Tell whether a part has more structure than a text would, and costs far more to parse."""
    size = len(segment)
    if size <= _MAX_DENSE_CHARS:
        return False
    lines = segment.count("\n") - segment.count("\n\n")  # that are not blank
    return lines * _MIN_LINE_CHARS > size or any(
        segment.count(mark) > share * size for mark, share in _MAX_SHARES.items()
    )


def _is_long_line(segment: str) -> bool:
    line = _LINE.match(segment)
    return line is not None and MAX_LINE_CHARS < line.end() == len(segment)


def _segments(text: str) -> Iterator[tuple[int, int]]:
    """Cut a text where a block ends, or if none does for long, where a line does."""
    start = _front_matter_end(text)
    fence = ""
    for line in _LINE.finditer(text, start):
        length = line.end() - line.start()
        if length > MAX_LINE_CHARS:
            if start < line.start():
                yield start, line.start()
            yield line.start(), line.end()
            start = line.end()
            continue
        if match := _FENCE.match(line[0]):
            if not fence:
                fence = match[1]
            elif match[1].startswith(fence):
                fence = ""
        grown = line.end() - start
        blank = not fence and line[0].isspace()
        if grown > 4 * SEGMENT_CHARS or (grown > SEGMENT_CHARS and blank):
            yield start, line.end()
            start = line.end()
    if start < len(text):
        yield start, len(text)


def _front_matter_end(text: str) -> int:
    match = _FRONT_MATTER.match(text, 0, _MAX_FRONT_MATTER_CHARS)
    return match.end() if match else 0
