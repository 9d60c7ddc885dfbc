"""Pages of a list, and page tokens (AIP-158): opaque, bound to what was listed, and signed.

A token that was altered, or made for another list or another tenant, is
refused; it can never become a key that the store did not give.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import Generic, TypeVar

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument

T = TypeVar("T")

_TAG_BYTES = 16  # 128 bits cannot be guessed, and keep the token short


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list; `next_key` continues it and is empty on the last page."""

    items: tuple[T, ...]
    next_key: str = ""


class PageTokens:
    """Makes tokens from the keys of a store's pages, and keys from tokens."""

    def __init__(self, key: bytes) -> None:
        """Take the secret, 32 random bytes that outlive the process."""
        self._key = key

    def encode(self, key: str, *bound_to: str) -> str:
        """Make the token that continues at `key`; an empty key makes an empty token.

        Args:
            key: of the store's page.
            bound_to: what the list is a list of, as the tenant and the parent.
        """
        if not key:
            return ""
        raw = key.encode()
        return _text(self._tag(raw, bound_to) + raw)

    def decode(self, token: str, *bound_to: str) -> str:
        """Return the key of a token; an empty token means the start.

        Raises:
            InvalidArgument: this server made no such token for this list.
        """
        if not token:
            return ""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raw = b""
        tag, key = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        # Several texts decode to the same bytes; only the one that was given is good.
        is_given = hmac.compare_digest(tag, self._tag(key, bound_to)) and token == _text(raw)
        if not is_given:
            raise InvalidArgument(
                FieldViolation("page_token", "is not a token that this server gave for this list")
            )
        return key.decode()

    def _tag(self, key: bytes, bound_to: tuple[str, ...]) -> bytes:
        # With its length before each part, none can be moved into its neighbour.
        parts = [*(part.encode() for part in bound_to), key]
        message = b"".join(len(part).to_bytes(8) + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)[:_TAG_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
