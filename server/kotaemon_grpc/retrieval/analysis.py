"""Text as terms: what is indexed, and what is looked up.

Words of alphabetic scripts become Snowball stems; runs of Chinese, Japanese and
Korean characters, which are written without spaces, become character bigrams.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from itertools import pairwise
from typing import TYPE_CHECKING

import Stemmer

if TYPE_CHECKING:
    from kotaemon_grpc.core.model import Passage

MAX_TERM_CHARS = 64
"""A longer word is cut: it is no word, and an index limits the size of a term."""

# Radicals to Bopomofo, the ideographs and their extensions, Hangul syllables,
# compatibility ideographs. Full-width and half-width forms are gone after NFKC.
CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
"""The characters that are written without spaces, as the inside of a character class."""

_TOKENS = re.compile(rf"([{CJK}]+)|([^\W_{CJK}]{{1,{MAX_TERM_CHARS}}})")
_WRAPPED = re.compile(rf"(?<=[{CJK}])[ \t\r]*\n[ \t]*(?=[{CJK}])")
_ACCENTS = re.compile("[\u0300-\u036f]+")


class _Stemmers(threading.local):
    """A stemmer for each thread: it keeps a cache and is not safe to share."""

    def __init__(self) -> None:
        self.english = Stemmer.Stemmer("english")


_STEMMERS = _Stemmers()


def terms(text: str) -> list[str]:
    """Return the terms of a text in order, repeated as they occur.

    Case, accents and the width of characters make no difference. A single CJK
    character between others is a term of its own. Safe to call on any thread.
    """
    if text.isascii():
        folded = text.lower()
    else:
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        # A line that is wrapped between two CJK characters does not part them.
        folded = _WRAPPED.sub("", unicodedata.normalize("NFKC", bare).lower())
    found: list[str] = []
    words: list[str] = []
    stem = _STEMMERS.english.stemWords
    for run, word in _TOKENS.findall(folded):
        if word:
            words.append(word)
            continue
        if words:
            found += stem(words)
            words = []
        if len(run) == 1:
            found.append(run)
        else:
            found += map("".join, pairwise(run))
    if words:
        found += stem(words)
    return found


def passage_terms(title: str, passage: Passage) -> list[str]:
    """Return the terms under which a passage is found: its headings' and its own.

    Args:
        title: of the document; counts unless it is among the headings.
        passage: what is indexed.
    """
    headings = passage.location.headings
    above = headings if title in headings else (title, *headings)
    return [*terms(" \n".join(above)), *terms(passage.text)]
