"""A document's text as blocks: what is not to be torn apart without need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a list, a table, or a piece of code.

    Args:
        section: the number of headings before it in the document.
        headings: above it, outermost first.
        start: where it starts in the text.
        end: where it ends, exclusive.
    """

    section: int
    headings: tuple[str, ...]
    start: int
    end: int


_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def plain_blocks(text: str, start: int = 0) -> Iterator[Block]:
    """Give the paragraphs of plain text from an offset on: what blank lines separate."""
    for blank in _BLANK_LINES.finditer(text, start):
        if start < blank.start():
            yield Block(0, (), start, blank.start())
        start = blank.end()
    if start < len(text):
        yield Block(0, (), start, len(text))
