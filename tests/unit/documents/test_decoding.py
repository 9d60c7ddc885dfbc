from __future__ import annotations

import codecs

import pytest

from kotaemon_grpc.core.errors import InvalidArgument
from kotaemon_grpc.documents.decoding import decode


@pytest.mark.parametrize(
    "content",
    [
        "héllo 春".encode(),
        "héllo 春".encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + "héllo 春".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "héllo 春".encode("utf-16-be"),
    ],
)
def test_text_is_read_without_its_mark(content: bytes) -> None:
    assert decode(content) == "héllo 春"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \r\n\t",
        codecs.BOM_UTF8,
        codecs.BOM_UTF16_LE,
        "héllo".encode("latin-1"),
        "春天".encode("gb18030"),
        b"a\0b",
        b"\x7fELF\x01\x02\x03\x04",
        codecs.BOM_UTF16_LE + b"a",
        "text".encode("utf-32"),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode(content)
    assert [v.field for v in caught.value.violations] == ["content"]
