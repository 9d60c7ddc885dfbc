"""Checks of what callers send, shared by all versions of the contract.

A translation makes one `Checks` a message, passes every field through it, and
calls `done`, so that the caller is told of all violations at once. What comes
out of a check is valid, or `done` raises.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument
from kotaemon_grpc.core.limits import (
    DEFAULT_PAGE_SIZE,
    MAX_CONTEXT_ENTRIES,
    MAX_CONTEXT_KEY_CHARS,
    MAX_CONTEXT_VALUE_CHARS,
    MAX_LANGUAGE_CHARS,
    MAX_PAGE_SIZE,
    MAX_QUESTION_CHARS,
    MAX_REQUEST_ID_CHARS,
    MAX_URI_CHARS,
)
from kotaemon_grpc.core.media_types import MEDIA_TYPES
from kotaemon_grpc.core.model import DEFAULT_COLLECTION, RESOURCE_ID
from kotaemon_grpc.core.titles import has_controls

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_FORM = (
    'must be 1 to 63 lower-case letters, digits, ".", "_" or "-", the first a letter or a digit'
)

# RFC 5646, section 2.1, as far as it can be told without the registry.
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", re.ASCII)
_REQUEST_ID = re.compile(rf"[!-~]{{1,{MAX_REQUEST_ID_CHARS}}}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class Checks:
    """Collects the violations of one message."""

    def __init__(self) -> None:
        """Start with none."""
        self._violations: list[FieldViolation] = []

    def violation(self, field: str, description: str) -> None:
        """Note that `field`, by the client's name for it, breaks a constraint."""
        self._violations.append(FieldViolation(field, description))

    def done(self) -> None:
        """Raise `InvalidArgument` with everything noted, if anything was."""
        if self._violations:
            raise InvalidArgument(*self._violations)

    def question(self, field: str, text: str) -> str:
        """Check the text of a question or query; it comes out as it went in."""
        if not text.strip():
            self.violation(field, "must not be empty or blank")
        elif len(text) > MAX_QUESTION_CHARS:
            self.violation(
                field, f"must be at most {MAX_QUESTION_CHARS} characters, not {len(text)}"
            )
        return text

    def text(self, field: str, text: str, max_chars: int) -> str:
        """Check an optional line of text, such as a title."""
        if len(text) > max_chars:
            self.violation(field, f"must be at most {max_chars} characters, not {len(text)}")
        elif has_controls(text):
            self.violation(field, "must have no control characters")
        return text

    def language(self, field: str, tag: str) -> str:
        """Check an optional BCP 47 tag."""
        if tag and (len(tag) > MAX_LANGUAGE_CHARS or not _LANGUAGE.fullmatch(tag)):
            self.violation(field, 'must be a BCP 47 language tag such as "en" or "zh-Hans"')
        return tag

    def context(self, field: str, entries: Mapping[str, str]) -> dict[str, str]:
        """Check the entries that are passed to the engine."""
        if not entries:  # as most often: to iterate over a map of a message takes long
            return {}
        if len(entries) > MAX_CONTEXT_ENTRIES:
            self.violation(field, f"must have at most {MAX_CONTEXT_ENTRIES} entries")
            return {}  # to look at a million of them would hold up everybody else
        for key, value in entries.items():
            if not 0 < len(key) <= MAX_CONTEXT_KEY_CHARS:
                self.violation(field, f"keys must be 1 to {MAX_CONTEXT_KEY_CHARS} characters")
            elif len(value) > MAX_CONTEXT_VALUE_CHARS:
                self.violation(
                    f'{field}["{key}"]', f"must be at most {MAX_CONTEXT_VALUE_CHARS} characters"
                )
        return dict(entries)

    def optional_id(self, field: str, value: str) -> str:
        """Check a bare id that may be empty."""
        return self.required_id(field, value) if value else ""

    def required_id(self, field: str, value: str) -> str:
        """Check a bare id."""
        if not RESOURCE_ID.fullmatch(value):
            self.violation(field, ID_FORM)
        return value

    def name(self, field: str, name: str, *collections: str) -> tuple[str, ...]:
        """Check a resource name (AIP-122) and return its ids.

        Args:
            field: the client's name for the field.
            name: as `collections/a/documents/b`.
            collections: the fixed parts, as `"collections", "documents"`.
        """
        parts = name.split("/")
        ids = tuple(parts[1::2])
        fixed = tuple(parts[::2])
        if fixed != collections or len(parts) != 2 * len(collections):
            form = "/".join(f"{part}/{{{part.removesuffix('s')}}}" for part in collections)
            self.violation(field, f'must have the form "{form}"')
            return ("",) * len(collections)
        for value in ids:
            self.required_id(field, value)
        return ids

    def collection(self, field: str, name: str) -> str:
        """Check an optional collection name and return its id."""
        return self.name(field, name, "collections")[0] if name else DEFAULT_COLLECTION

    def uri(self, field: str, uri: str) -> str:
        """Check an optional absolute URI (RFC 3986, section 4.3)."""
        if not uri:
            return uri
        try:
            scheme = urlsplit(uri).scheme
        except ValueError:
            scheme = ""
        if len(uri) > MAX_URI_CHARS:
            self.violation(field, f"must be at most {MAX_URI_CHARS} characters, not {len(uri)}")
        elif not scheme or not uri.isprintable() or " " in uri:
            self.violation(field, 'must be an absolute URI such as "file:///srv/handbook.md"')
        return uri

    def mime_type(self, field: str, mime_type: str) -> str:
        """Check an optional media type."""
        if mime_type and mime_type not in MEDIA_TYPES:
            self.violation(field, f"must be one of {', '.join(MEDIA_TYPES)}")
        return mime_type

    def request_id(self, field: str, value: str) -> str:
        """Check an optional name of a request (AIP-155)."""
        if value and not _REQUEST_ID.fullmatch(value):
            self.violation(
                field, f"must be at most {MAX_REQUEST_ID_CHARS} visible ASCII characters"
            )
        return value

    def sha256(self, field: str, digest: str) -> str:
        """Check an optional SHA-256 in hexadecimal digits; it comes out in lower case."""
        digest = digest.lower()
        if digest and not _SHA256.fullmatch(digest):
            self.violation(field, "must be 64 hexadecimal digits")
        return digest

    def page_size(
        self, field: str, size: int, *, most: int = MAX_PAGE_SIZE, default: int = DEFAULT_PAGE_SIZE
    ) -> int:
        """Check the size of a page (AIP-158): 0 is the default, too many is the most."""
        if size < 0:
            self.violation(field, "must not be negative")
        return min(size, most) or default
