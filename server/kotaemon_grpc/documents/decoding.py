"""Bytes as text."""

from __future__ import annotations

import codecs

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument

_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\f\r\x1b")) + b"\x7f"
_MAX_CONTROL_SHARE = 0.05


def decode(content: bytes) -> str:
    """Return the text of a document's content, without a byte order mark.

    Args:
        content: UTF-8, or UTF-16 that starts with a byte order mark.

    Raises:
        InvalidArgument: it is neither, is binary, or has nothing but white
            space; the field is `content`.
    """
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise _invalid("must be text in UTF-8, or in UTF-16 with a byte order mark") from error
    if not text or text.isspace():
        raise _invalid("must have text other than white space")
    if "\0" in text or _control_share(content if not wide else text.encode()) > _MAX_CONTROL_SHARE:
        raise _invalid("must be text, but this is binary")
    return text


def _control_share(content: bytes) -> float:
    return 1 - len(content.translate(None, _CONTROLS)) / max(1, len(content))


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(FieldViolation("content", description))
