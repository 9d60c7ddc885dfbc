"""Files as documents: the adapter of `core.ports.DocumentParser`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument, StorageUnavailable
from kotaemon_grpc.core.media_types import MARKDOWN, MEDIA_TYPES
from kotaemon_grpc.core.model import ParsedDocument
from kotaemon_grpc.documents.blocks import plain_blocks
from kotaemon_grpc.documents.decoding import decode
from kotaemon_grpc.documents.markdown import MarkdownReader
from kotaemon_grpc.documents.passages import passages

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from kotaemon_grpc.core.model import Passage


MAX_MARKDOWN_CHARS = 4 * 1024 * 1024
"""A longer text is read as plain text: the worst of it would take a thread for minutes."""


class TextParser:
    """Reads Markdown and plain text, on threads."""

    def __init__(self, executor: Executor | None = None) -> None:
        """Take the threads to work on; without any, the loop's own are used."""
        self._executor = executor

    async def parse(self, content: bytes | Path, mime_type: str) -> ParsedDocument:
        """Read a document.

        Args:
            content: it, or the file that has it.
            mime_type: `text/markdown` or `text/plain`.

        Raises:
            InvalidArgument: the content is not text, or the type is another;
                the field is `content`.
            StorageUnavailable: the file cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, _parse, content, mime_type)


def parse_text(text: str, mime_type: str) -> ParsedDocument:
    """Cut a text into passages.

    Args:
        text: not all white space.
        mime_type: `text/markdown` or `text/plain`.

    Raises:
        InvalidArgument: the type is another; the field is `content`.
    """
    title = ""
    found: tuple[Passage, ...] = ()
    if mime_type == MARKDOWN and len(text) <= MAX_MARKDOWN_CHARS:
        reader = MarkdownReader()
        found = tuple(passages(text, reader.blocks(text)))
        title = reader.title
    elif mime_type not in MEDIA_TYPES:
        raise InvalidArgument(
            FieldViolation("content", f"must be of the type {' or '.join(MEDIA_TYPES)}")
        )
    # Markdown of nothing but headings is read as it stands.
    return ParsedDocument(title, found or tuple(passages(text, plain_blocks(text))))


def _parse(content: bytes | Path, mime_type: str) -> ParsedDocument:
    if not isinstance(content, bytes):
        try:
            content = content.read_bytes()
        except OSError as error:
            raise StorageUnavailable from error
    return parse_text(decode(content), mime_type)
