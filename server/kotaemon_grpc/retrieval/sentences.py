# ruff: noqa: RUF001 - typographic and full-width marks are what this is about
"""Text as sentences, in English, Chinese, and a mixture of both.

Works on plain text and on Markdown alike: a sentence never reaches across
blocks (paragraphs, list items, table rows, headings, code), and a line that was
merely wrapped is no end of a sentence.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SENTENCE_CHARS = 1000
"""A longer run without an end is cut, at white space if it has any."""


class Kind(enum.Enum):
    """What a sentence is part of."""

    PROSE = "prose"
    HEADING = "heading"
    CODE = "code"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Sentence:
    """A slice of a text, without white space around it; never empty."""

    start: int
    end: int
    kind: Kind


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*\r?\n?$")
_RULE = re.compile(r" {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}\r?\n?$")
_TABLE_ROW = re.compile(r"[ \t]*\|")
_TABLE_RULE = re.compile(r"[ \t|:-]+\r?\n?$")
_MARKER = re.compile(r"[ \t]*(?:(?:[-*+•·]|\d{1,3}[.)])[ \t]+|\d{1,3}、|> ?)")

_CLOSING = "\"'”’)\\]）】」』》〉»*_`"
# Possessive and with a look behind, so that a long run of stops is passed once.
_ENDS = re.compile(
    rf"(?P<wide>[。！？；｡]+[{_CLOSING}]*)"
    rf"|(?<![.!?…])[.!?…]++[{_CLOSING}]*+(?=\s)"
    rf"|(?<![!?])[!?]++[{_CLOSING}]*+(?=[\u3400-\u9fff])"
)
_WORD_BEFORE = re.compile(r"[^\s(\[“‘\"'（【「『]*$")
_WORD_AFTER = re.compile(r"\s+[\"'“‘(\[*_`]*([^\W_]+)?")
_OPENS_MARKUP = re.compile(r"\s+[`\[]")  # code and links begin a sentence in lower case too
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]$")
_STARTERS = frozenset(
    """
    A After All An And As At But By For From He Her His However If In It Its On She Since Some
    That The Their There These They This Those To We When While With You
    """.split()  # noqa: SIM905 - so many words are read better as text
)
_TITLES = frozenset(
    """
    mr mrs ms dr prof st sr jr gen col capt lt sgt rev hon gov sen rep pres mt ft vs e.g i.e cf
    al resp incl esp viz
    """.split()  # noqa: SIM905 - so many words are read better as text
)
_BEFORE_NUMBER = frozenset(
    """
    no nos p pp fig figs vol art sec ch eq ca c approx jan feb mar apr jun jul aug sep sept oct
    nov dec
    """.split()  # noqa: SIM905 - so many words are read better as text
)


def sentences(text: str) -> list[Sentence]:
    """Return the sentences of a text in order; they do not overlap.

    Takes time and memory in proportion to the text, whatever is in it.
    """
    found: list[Sentence] = []
    for start, end, kind in _blocks(text):
        block = text[start:end]
        ends = [*_ends(block), len(block)] if kind is Kind.PROSE else [len(block)]
        begin = 0
        for stop in ends:
            for a, b in _pieces(block, begin, stop):
                found.append(Sentence(start + a, start + b, kind))
            begin = stop
    return found


def _blocks(text: str) -> Iterator[tuple[int, int, Kind]]:
    """Cut a text into blocks, line by line."""
    start = end = 0  # of the open paragraph or code, empty if they are equal
    fence = ""
    for match in _LINE.finditer(text):
        line, at, after = match[0], match.start(), match.end()
        if fence:
            if _closes(line, fence):
                yield start, end, Kind.CODE
                fence, start = "", after
            end = after
        elif start < end and (_UNDERLINE.match(line) or line.isspace()):
            yield start, end, Kind.PROSE if line.isspace() else Kind.HEADING
            start = end = after
        elif start < end and not _interrupts(line):
            end = after
        else:
            if start < end:
                yield start, end, Kind.PROSE
            start = end = after
            if opening := _FENCE.match(line):
                fence = opening[1]
            elif _is_line_block(line):
                yield from _line_block(line, at)
            else:
                marker = _MARKER.match(line)
                start = marker.end() + at if marker else at
    if start < end:
        yield start, end, Kind.CODE if fence else Kind.PROSE


def _closes(line: str, fence: str) -> bool:
    end = line.strip()
    return end.startswith(fence) and end == fence[0] * len(end)


def _interrupts(line: str) -> bool:
    """Tell whether a line cannot belong to the paragraph above it."""
    marker = _MARKER.match(line)
    is_item = marker is not None and ">" not in marker[0]
    return is_item or _FENCE.match(line) is not None or _is_line_block(line)


def _is_line_block(line: str) -> bool:
    return any(p.match(line) for p in (_HEADING, _RULE, _TABLE_ROW))


def _line_block(line: str, at: int) -> Iterator[tuple[int, int, Kind]]:
    """Give the block that a heading or a row of a table is; rules hold nothing."""
    if heading := _HEADING.match(line):
        yield at + heading.end(), at + len(line.rstrip().rstrip("#")), Kind.HEADING
    elif not (_RULE.match(line) or _TABLE_RULE.match(line)):
        left = len(line) - len(line.lstrip("| \t"))
        yield at + left, at + len(line.rstrip("| \t\r\n")), Kind.TABLE


def _ends(block: str) -> Iterator[int]:
    """Give the offsets at which a sentence of a paragraph ends."""
    for match in _ENDS.finditer(block):
        if match["wide"] or not _goes_on(block, match.start(), match.end()):
            yield match.end()


def _goes_on(block: str, stop: int, end: int) -> bool:
    """Tell whether the words around a full stop belong to one sentence."""
    after = _WORD_AFTER.match(block, end, end + 80)
    following = (after[1] or "") if after else ""
    if stop and block[stop - 1].isspace():
        return False  # a full stop on its own
    if following[:1].islower() and not _OPENS_MARKUP.match(block, end):
        return True
    if block[stop] != "." or block[stop : stop + 2] == "..":
        return False
    before = _WORD_BEFORE.search(block[max(0, stop - 40) : stop])
    word = before[0] if before else ""
    if word.lower() in _BEFORE_NUMBER and following[:1].isdigit():
        return True
    if _ACRONYM.match(word):  # "U.S.", or an initial
        return following not in _STARTERS if "." in word else word.isupper() and word != "I"
    return word.lower() in _TITLES


def _pieces(block: str, begin: int, stop: int) -> Iterator[tuple[int, int]]:
    """Trim a sentence, and cut one that is too long."""
    while begin < stop:
        end = min(stop, begin + MAX_SENTENCE_CHARS)
        if end < stop:
            space = max(block.rfind(" ", begin, end), block.rfind("\n", begin, end))
            end = space + 1 if space > begin else end
        piece = block[begin:end]
        left = len(piece) - len(piece.lstrip())
        length = len(piece.rstrip())
        if left < length:
            yield begin + left, begin + length
        begin = end
