"""Blocks as passages: parts of a size that is found well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import Location, Passage
from kotaemon_grpc.retrieval.sentences import sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kotaemon_grpc.documents.blocks import Block

PASSAGE_CHARS = 1200
"""Short blocks under the same heading are put together up to this size."""

MAX_PASSAGE_CHARS = 6000
"""A block up to this size stays whole. A longer one is cut into passages of `PASSAGE_CHARS`."""


def passages(text: str, blocks: Iterable[Block]) -> Iterator[Passage]:
    """Give the passages of a text, each a slice of it without white space at its end."""
    start = end = 0
    headings: tuple[str, ...] = ()
    section = 0
    for block in blocks:
        if start < end and (block.section != section or block.end - start > PASSAGE_CHARS):
            yield _passage(text, headings, start, end)
            start = end
        if block.end - block.start > MAX_PASSAGE_CHARS:
            for a, b in _pieces(text, block.start, block.end):
                yield _passage(text, block.headings, a, b)
            start = end = block.end
            continue
        if start == end:
            start = block.start
        section, headings, end = block.section, block.headings, block.end
    if start < end:
        yield _passage(text, headings, start, end)


def _passage(text: str, headings: tuple[str, ...], start: int, end: int) -> Passage:
    end = start + len(text[start:end].rstrip())
    return Passage(text[start:end], Location(headings, start, end))


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a long block after a sentence, or else at white space, or else anywhere."""
    least = PASSAGE_CHARS // 2
    while start < end:
        window = text[start : min(end, start + PASSAGE_CHARS)]
        length = len(window)
        if start + length < end:
            stops = [s.end for s in sentences(window)[:-1]]
            spaces = max(window.rfind(" "), window.rfind("\n"))
            stop = max(stops, default=0)
            length = next((n for n in (stop, spaces) if n >= least), length)
        if not window[:length].isspace():
            yield start, start + length
        start += length
