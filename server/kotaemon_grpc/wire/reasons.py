"""The reasons of failures, as `google.rpc.ErrorInfo` carries them (AIP-193).

`docs/errors.md` has the table: a test holds it and this file together.
"""

from __future__ import annotations

import enum

DOMAIN = "kotaemon-grpc"
"""The `domain` of every `ErrorInfo` of this server."""


class Reason(enum.StrEnum):
    """Why a call failed. A client may branch on it: values are never reused."""

    INVALID_FIELD = "INVALID_FIELD"
    COLLECTION_NOT_FOUND = "COLLECTION_NOT_FOUND"
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND"
    CONVERSATION_NOT_FOUND = "CONVERSATION_NOT_FOUND"
    DOCUMENT_ALREADY_EXISTS = "DOCUMENT_ALREADY_EXISTS"
    CONVERSATION_ALREADY_EXISTS = "CONVERSATION_ALREADY_EXISTS"
    DOCUMENT_TOO_LARGE = "DOCUMENT_TOO_LARGE"
    STORAGE_FULL = "STORAGE_FULL"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    INTERNAL = "INTERNAL"
