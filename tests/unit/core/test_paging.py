from __future__ import annotations

import base64

import pytest

from kotaemon_grpc.core.errors import InvalidArgument
from kotaemon_grpc.core.paging import PageTokens

TOKENS = PageTokens(b"k" * 32)


def refused(tokens: PageTokens, token: str, *bound_to: str) -> bool:
    try:
        tokens.decode(token, *bound_to)
    except InvalidArgument as error:
        return [violation.field for violation in error.violations] == ["page_token"]
    return False


@pytest.mark.parametrize("key", ["a", "aa", "aaa", "键", "x" * 500, "\0"])
def test_a_token_gives_its_key_back(key: str) -> None:
    token = TOKENS.encode(key, "tenant", "list")
    assert TOKENS.decode(token, "tenant", "list") == key
    assert token.isascii()


def test_no_key_is_no_token() -> None:
    assert TOKENS.encode("", "list") == ""
    assert TOKENS.decode("", "list") == ""


@pytest.mark.parametrize("key", ["a", "aa", "aaa"])
def test_every_change_of_a_token_is_seen(key: str) -> None:
    token = TOKENS.encode(key, "list")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=\n "
    for at, letter in enumerate(token):
        for other in set(alphabet) - {letter}:
            assert refused(TOKENS, token[:at] + other + token[at + 1 :], "list")
    for other in (token[1:], token[:-1], token + "A", token + "=", " " + token, token + "é"):
        assert refused(TOKENS, other, "list")


@pytest.mark.parametrize(
    "bound_to", [(), ("tenant",), ("tenant", "other"), ("other", "list"), ("tenant", "list", "x")]
)
def test_a_token_is_good_for_one_list(bound_to: tuple[str, ...]) -> None:
    assert refused(TOKENS, TOKENS.encode("a", "tenant", "list"), *bound_to)


def test_a_token_is_good_for_one_server() -> None:
    assert refused(PageTokens(b"o" * 32), TOKENS.encode("a", "list"), "list")


def test_a_key_cannot_be_moved_into_what_it_is_bound_to() -> None:
    token = TOKENS.encode("b", "list", "a")
    tag = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[:16]
    forged = base64.urlsafe_b64encode(tag + b"a\0b").decode().rstrip("=")
    assert refused(TOKENS, forged, "list")
    assert refused(TOKENS, forged, "list", "")
    assert refused(TOKENS, forged, "list", "a")
