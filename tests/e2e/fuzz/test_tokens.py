"""Whatever comes as a token or an API key: only good ones let anybody in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

FUZZ = settings(settings.get_profile("fuzz"), max_examples=60)
FORBIDDEN = b"\0\r\n"  # in the value of a field (RFC 9113, section 8.2.1)

ANYTHING = st.one_of(
    st.binary(max_size=200).map(lambda value: value.translate(None, FORBIDDEN)),
    st.text(max_size=100)
    .map(lambda value: value.encode("utf-8", "replace"))
    .map(lambda value: value.translate(None, FORBIDDEN)),
    st.text(".-_=aAeyJ0 ", max_size=100).map(str.encode),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.one_of(
            st.sampled_from(["none", "None", "NONE", "", "HS256", "RS512", "PS256", "EdDSA"]), JSON
        ),
        "kid": st.one_of(st.sampled_from(["", "../../dev/null", "two"]), JSON),
        "typ": JSON,
        "crit": JSON,
        "b64": st.booleans(),
        "jku": st.just("https://127.0.0.1:1/jwks"),
        "jwk": JSON,
        "zip": st.just("DEF"),
    },
)


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture
def refused(watched: Any, ask: Any, documented: Any) -> Any:
    """Show credentials, and check that they let nobody in: `refused(name, value)`."""
    path, request = ask

    def check(*fields: tuple[bytes, bytes]) -> None:
        answer = watched.call(path, request, fields=fields, address=watched.token_address)
        documented(answer)
        assert answer.code == "UNAUTHENTICATED", answer
        assert answer.reason.startswith("CREDENTIALS_")

    return check


def test_good_credentials_let_their_owner_in(watched: Any, ask: Any) -> None:
    issued = watched.issued
    for field in (issued.bearer(), (b"x-api-key", issued.api_key.encode())):
        answer = watched.call(*ask, fields=[field], address=watched.token_address)
        assert answer.code == "OK"


@pytest.mark.parametrize("scheme", [b"", b"Bearer ", b"bearer  ", b"Basic "])
def test_bytes_are_no_token(scheme: bytes, refused: Any) -> None:
    @FUZZ
    @given(ANYTHING)
    def check(content: bytes) -> None:
        refused((b"authorization", (scheme + content).strip()))

    check()


def test_bytes_are_no_api_key(refused: Any) -> None:
    @FUZZ
    @given(ANYTHING)
    def check(content: bytes) -> None:
        refused((b"x-api-key", content.strip()))

    check()


def test_a_changed_api_key_is_refused(refused: Any, watched: Any) -> None:
    good = watched.issued.api_key

    @FUZZ
    @given(st.integers(0, len(good) - 1), st.characters(min_codepoint=0x21, max_codepoint=0x7E))
    def check(at: int, character: str) -> None:
        changed = good[:at] + character + good[at + 1 :]
        assume(changed != good)
        refused((b"x-api-key", changed.encode()))

    check()
    for other in (good[::-1], good[:-1], good + "0", good.upper(), good.partition(".")[0] + "."):
        refused((b"x-api-key", other.encode()))


def test_both_kinds_at_once_are_refused_although_both_are_good(refused: Any, watched: Any) -> None:
    refused(watched.issued.bearer(), (b"x-api-key", watched.issued.api_key.encode()))


def test_a_token_with_a_changed_character_is_refused(refused: Any, watched: Any) -> None:
    good = watched.issued.token()

    @FUZZ
    @given(st.integers(0, len(good) - 1), st.characters(min_codepoint=0x21, max_codepoint=0x7E))
    def check(at: int, character: str) -> None:
        changed = good[:at] + character + good[at + 1 :]
        assume(changed != good)
        if good[at + 1 : at + 2] in {".", ""}:  # its last bits stand for nothing
            changed = changed[:at] + changed[at + 1 :]
        refused((b"authorization", b"Bearer " + changed.encode()))

    check()


def test_parts_of_good_tokens_make_no_token(refused: Any, watched: Any) -> None:
    one, two = (watched.issued.token(subject=name).split(".") for name in ("alice", "eve"))

    @FUZZ
    @given(st.lists(st.sampled_from([*one, *two, ""]), max_size=4))
    def check(parts: list[str]) -> None:
        assume(parts not in (one, two))
        refused((b"authorization", b"Bearer " + ".".join(parts).encode()))

    check()


def test_another_header_over_a_good_signature_is_refused(refused: Any, watched: Any) -> None:
    head, claims, signature = watched.issued.token().split(".")
    good = json.loads(decoded(head))

    @FUZZ
    @given(HEADERS, st.sampled_from([signature, "AA"]))
    @example({"alg": "none"}, "AA")
    def check(changes: dict[str, Any], shown: str) -> None:
        assume(changes or shown != signature)
        changed = encoded(json.dumps(good | changes).encode())
        refused((b"authorization", f"Bearer {changed}.{claims}.{shown}".encode()))

    check()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_the_public_key_is_no_shared_secret(
    algorithm: str, encoding: Encoding, refused: Any, watched: Any
) -> None:
    """The confusion of algorithms: RFC 8725, section 2.1."""
    issued = watched.issued
    public = issued.private_key.public_key().public_bytes(
        encoding, PublicFormat.SubjectPublicKeyInfo
    )
    claims = issued.token().split(".")[1]
    header = encoded(json.dumps({"alg": algorithm, "kid": "one", "typ": "JWT"}).encode())
    for secret in (public, public.strip(), b""):
        mac = hmac.digest(secret, f"{header}.{claims}".encode(), hashlib.sha256)
        refused((b"authorization", f"Bearer {header}.{claims}.{encoded(mac)}".encode()))
