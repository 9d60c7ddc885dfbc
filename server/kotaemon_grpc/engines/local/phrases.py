"""The words that the engine itself adds to an answer."""

from __future__ import annotations

import re

from kotaemon_grpc.retrieval.analysis import CJK

NOTHING_FOUND = {
    "en": "I found nothing about this in the documents.",
    "zh": "在文档中没有找到与此相关的内容。",
}
"""What is said when the documents do not answer a question, by language."""

_WIDE = re.compile(f"[{CJK}]")
_LETTER = re.compile(r"[^\W\d_]")


def nothing_found(language: str, question: str) -> str:
    """Say that the documents do not answer a question.

    Args:
        language: a BCP 47 tag, of which the primary subtag counts (RFC 5646,
            section 2.2.1), or empty for the language of the question. A language
            without words here is answered in English.
        question: what was asked.
    """
    primary = language.partition("-")[0].lower()
    if not primary:
        letters = len(_LETTER.findall(question))
        primary = "zh" if 2 * len(_WIDE.findall(question)) > letters else "en"
    return NOTHING_FOUND.get(primary, NOTHING_FOUND["en"])
