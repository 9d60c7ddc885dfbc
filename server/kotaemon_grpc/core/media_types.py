"""The media types of documents, and the endings of names that stand for them."""

from __future__ import annotations

import posixpath

MARKDOWN = "text/markdown"
PLAIN_TEXT = "text/plain"

MEDIA_TYPES = (MARKDOWN, PLAIN_TEXT)
"""All that are taken in."""

ENDINGS = {".md": MARKDOWN, ".markdown": MARKDOWN, ".txt": PLAIN_TEXT, ".text": PLAIN_TEXT}
"""What the ending of a name stands for, in lower case."""


def media_type_of(name: str) -> str | None:
    """Return the media type that the ending of a file name or path stands for, or None."""
    return ENDINGS.get(posixpath.splitext(name)[1].lower())
