"""What core refuses before the server sees the call, as docs/errors.md says."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"grpc-timeout", b"soon"),
        (b"grpc-encoding", b"zip"),
        (b"grpc-retry-pushback-ms", b"soon"),
        (b"grpc-previous-rpc-attempts", b"-1"),
        (b"grpc-status", b"OK"),
        (b"grpc-status", b"-1"),
        (b"x-bin", b"!"),
        *((b"a" + bytes([other]), b"x") for other in b"A!#$%&'*+^`|~ /@"),
        (b"", b"x"),
    ],
)
def test_metadata_that_core_cannot_read_is_internal(
    *, watched: Any, ask: Any, name: bytes, value: bytes
) -> None:
    path, request = ask
    answer = watched.call(path, request, fields=[(name, value)])
    assert (answer.code, answer.reason) == ("INTERNAL", "")
    assert not answer.status.details


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"grpc-retry-pushback-ms", b"7"),
        (b"grpc-previous-rpc-attempts", b"7"),
        (b"grpc-status", b"7"),
        (b"x-bin", b"eA"),
        (b"a_b.c-d0", b"x"),
        (b"x-not-utf-8", b"\xff"),
    ],
)
def test_metadata_that_core_can_read_is_welcome(
    *, watched: Any, ask: Any, name: bytes, value: bytes
) -> None:
    path, request = ask
    assert watched.call(path, request, fields=[(name, value)]).code == "OK"
