"""Which keys of a key set can be used."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.auth.jwk import parse_jwks
from kotaemon_grpc.auth.reload import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_keys_of_all_three_kinds_are_usable(
    jwk: Callable[..., Any], jwks: Callable[..., bytes]
) -> None:
    good = [jwk("rs", alg="RS256", use="sig"), jwk("es", key_ops=["verify"]), jwk("ed", kid=None)]
    found = parse_jwks(jwks(*good))
    assert [(key.kid, key.algorithm) for key in found] == [
        ("rs", "RS256"),
        ("es", "ES256"),
        (None, "EdDSA"),
    ]


@pytest.mark.parametrize(
    ("kid", "members"),
    [
        ("rs", {"alg": "RS512"}),
        ("rs", {"alg": "PS256"}),
        ("rs", {"alg": "HS256"}),
        ("es", {"alg": "RS256"}),
        ("rs", {"use": "enc"}),
        ("rs", {"key_ops": ["encrypt"]}),
        ("rs", {"key_ops": "verify"}),
        ("rs", {"private": True}),
        ("es", {"private": True}),
        ("ed", {"private": True}),
        ("weak", {}),
        ("es384", {}),
        ("rs", {"kty": "oct", "k": "c2VjcmV0"}),
        ("rs", {"kty": "EC"}),
        ("rs", {"kty": ["RSA"]}),
        ("rs", {"kid": 7}),
        ("rs", {"n": 7}),
        ("rs", {"n": "!"}),
        ("rs", {"e": "AQ"}),
        ("es", {"x": "AAAA"}),
        ("es", {"y": None}),
        ("es", {"y": 7}),
        ("ed", {"crv": "X25519"}),
        ("ed", {"x": "AAAA"}),
    ],
)
def test_a_key_for_anything_else_is_dropped(
    jwk: Callable[..., Any], jwks: Callable[..., bytes], kid: str, members: dict[str, Any]
) -> None:
    other = jwk("rs2")
    assert [key.kid for key in parse_jwks(jwks(jwk(kid, **members), other))] == ["rs2"]
    with pytest.raises(SourceError, match="no usable key"):
        parse_jwks(jwks(jwk(kid, **members)))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1, []]}', b"[" * 100_000]
)
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(SourceError):
        parse_jwks(content)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "kid", "alg", "use", "key_ops", "n", "e", "x", "y"]),
        st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "A" * 43])
        | st.none()
        | st.integers()
        | st.lists(st.text()),
    )
)
def test_a_strange_key_spoils_nothing_but_itself(key: dict[str, Any]) -> None:
    with contextlib.suppress(SourceError):
        parse_jwks(json.dumps({"keys": [key]}).encode())


def test_no_key_is_shown(jwk: Callable[..., Any], jwks: Callable[..., bytes]) -> None:
    (key,) = parse_jwks(jwks(jwk("rs")))
    assert repr(key) == "VerificationKey(kid='rs', algorithm='RS256')"
