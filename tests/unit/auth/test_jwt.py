from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.jwt import MAX_TOKEN_BYTES, Issuer, TokenVerifier
from kotaemon_grpc.core.errors import OperatorError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


ROLES_BY_SCOPE = {"read": ("user",), "all": ("user", "admin")}


def encoded(value: Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def key_set(path: Path, content: bytes) -> KeySet:
    path.write_bytes(content)
    keys = KeySet(str(path))
    asyncio.run(keys.load())
    return keys


@pytest.fixture(scope="session")
def keys(
    tmp_path_factory: pytest.TempPathFactory,
    jwk: Callable[..., Any],
    jwks: Callable[..., bytes],
) -> KeySet:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return key_set(path, jwks(jwk("rs"), jwk("es"), jwk("ed")))


@pytest.fixture
def verifier(keys: KeySet, clock: Any) -> Callable[..., TokenVerifier]:
    """Make a verifier of one issuer: `verifier(leeway_s=…)`."""

    def make(**settings: Any) -> TokenVerifier:
        good = {
            "name": "idp",
            "issuer": "https://idp",
            "audiences": ["agents", "others"],
            "keys": keys,
        }
        return TokenVerifier([Issuer(**{**good, **settings})], clock)

    return make


@pytest.mark.parametrize("kid", ["rs", "es", "ed"])
@pytest.mark.parametrize("named", [True, False])
def test_a_good_token_names_the_caller(
    *,
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    now_s: float,
    kid: str,
    named: bool,
) -> None:
    header = {} if named else {"kid": None}
    identity = verifier(leeway_s=5.0).identify(sign(kid, header), None)
    assert (identity.principal, identity.tenant) == ("idp:alice", "default")
    assert identity.credential == "jwt"
    assert identity.expires_at == now_s + 65


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"iss": "https://other"}, "NOT_TRUSTED"),
        ({"iss": None}, "NOT_TRUSTED"),
        ({"aud": "else"}, "NOT_TRUSTED"),
        ({"aud": None}, "NOT_TRUSTED"),
        ({"aud": []}, "NOT_TRUSTED"),
        ({"aud": [["agents"]]}, "NOT_TRUSTED"),
        ({"exp": None}, "MALFORMED"),
        ({"exp": "1900000000"}, "MALFORMED"),
        ({"exp": True}, "MALFORMED"),
        ({"exp": float("inf")}, "MALFORMED"),
        ({"exp": float("nan")}, "MALFORMED"),
        ({"exp": 10**400}, "MALFORMED"),
        ({"exp": -1}, "MALFORMED"),
        ({"nbf": "soon"}, "MALFORMED"),
        ({"sub": None}, "NOT_TRUSTED"),
        ({"sub": ""}, "NOT_TRUSTED"),
        ({"sub": "a\nb"}, "NOT_TRUSTED"),
        ({"sub": "a\u202eb"}, "NOT_TRUSTED"),
        ({"sub": "a\ud800"}, "NOT_TRUSTED"),
        ({"sub": "x" * 253}, "NOT_TRUSTED"),
        ({"sub": ["alice"]}, "NOT_TRUSTED"),
    ],
)
def test_a_token_with_wrong_claims_is_refused(
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    claims: dict[str, Any],
    problem: str,
) -> None:
    assert problem_of(verifier().identify, sign(**claims)) == problem


@pytest.mark.parametrize(
    "claims", [{"aud": ["x", "others"]}, {"sub": "x" * 252}, {"sub": "日本 語"}, {"nbf": 0}]
)
def test_a_token_at_the_border_is_good(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str], claims: dict[str, Any]
) -> None:
    verifier().identify(sign(**claims))


@pytest.mark.parametrize(
    ("claims", "offset_s", "problem"),
    [
        ({}, 60 + 4.9, None),
        ({}, 60 + 5, "EXPIRED"),
        ({"nbf": 1_800_000_010}, 5, None),
        ({"nbf": 1_800_000_010}, 4.9, "NOT_YET_VALID"),
        ({"iat": 1_800_000_010}, 5, None),
        ({"iat": 1_800_000_010}, 4.9, "NOT_YET_VALID"),
    ],
)
def test_times_hold_within_the_leeway(
    *,
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    clock: Any,
    claims: dict[str, Any],
    offset_s: float,
    problem: str | None,
) -> None:
    made = verifier(leeway_s=5.0)
    clock.now_s += offset_s
    if problem is None:
        assert made.identify(sign(**claims)).principal == "idp:alice"
    else:
        assert problem_of(made.identify, sign(**claims)) == problem


@pytest.mark.parametrize(
    ("required", "claims", "is_good"),
    [
        ({"azp": "app"}, {"azp": "app"}, True),
        ({"azp": "app"}, {"azp": "other"}, False),
        ({"azp": "app"}, {}, False),
        ({"azp": ["app", "web"]}, {"azp": "web"}, True),
        ({"groups": ["ops"]}, {"groups": ["dev", "ops"]}, True),
        ({"groups": ["ops"]}, {"groups": ["dev"]}, False),
        ({"azp": []}, {"azp": "any"}, True),
        ({"azp": []}, {}, False),
        ({"email_verified": True}, {"email_verified": True}, True),
        ({"email_verified": True}, {"email_verified": 1}, False),
        ({"email_verified": True}, {"email_verified": "true"}, False),
        ({"org.id": "x"}, {"org": {"id": "x"}}, True),
        ({"org.id": "x"}, {"org": "x"}, False),
        ({"a": "1", "b": "2"}, {"a": "1"}, False),
    ],
)
def test_required_claims_are_required(
    *,
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    required: dict[str, Any],
    claims: dict[str, Any],
    is_good: bool,
) -> None:
    made = verifier(required_claims=required)
    if is_good:
        assert made.identify(sign(**claims)).principal == "idp:alice"
    else:
        assert problem_of(made.identify, sign(**claims)) == "NOT_TRUSTED"


@pytest.mark.parametrize(
    ("settings", "claims", "roles"),
    [
        ({}, {"scope": " read  all "}, {"user", "admin"}),
        ({}, {"scope": "read admin"}, {"user"}),
        ({}, {"scope": "admin"}, set()),
        ({}, {"scope": 7}, set()),
        ({}, {}, set()),
        ({"scope_claim": "roles"}, {"roles": ["read", 7, None]}, {"user"}),
        ({"scope_claim": "realm_access.roles"}, {"realm_access": {"roles": ["read"]}}, {"user"}),
        ({"scope_claim": "realm_access.roles"}, {"realm_access": ["roles"]}, set()),
        ({"scope_claim": "https://a.org/scp"}, {"https://a.org/scp": "read"}, {"user"}),
        ({"roles_by_scope": {}}, {"scope": "read admin"}, set()),
    ],
)
def test_a_scope_grants_the_roles_that_the_settings_say(
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    settings: dict[str, Any],
    claims: dict[str, Any],
    roles: set[str],
) -> None:
    made = verifier(**{"roles_by_scope": ROLES_BY_SCOPE, **settings})
    assert made.identify(sign(**claims)).roles == roles


def test_without_a_setting_scopes_grant_nothing(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str]
) -> None:
    assert verifier().identify(sign(scope="user admin")).roles == set()


@pytest.mark.parametrize(
    ("settings", "claims", "tenant"),
    [
        ({"tenant": "fixed"}, {"org": "o-1"}, "fixed"),
        ({"tenant_claim": "org"}, {"org": "o-1"}, "o-1"),
        ({"tenant_claim": "org.id"}, {"org": {"id": "o-1"}}, "o-1"),
        ({"tenant_claim": "org"}, {}, None),
        ({"tenant_claim": "org", "tenant": "fixed"}, {}, None),
        ({"tenant_claim": "org"}, {"org": "O 1"}, None),
        ({"tenant_claim": "org"}, {"org": "../o"}, None),
        ({"tenant_claim": "org"}, {"org": "x" * 64}, None),
        ({"tenant_claim": "org"}, {"org": ["o-1"]}, None),
    ],
)
def test_the_tenant_is_the_issuers_or_the_claims(
    *,
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    settings: dict[str, Any],
    claims: dict[str, Any],
    tenant: str | None,
) -> None:
    made = verifier(**settings)
    if tenant is None:
        assert problem_of(made.identify, sign(**claims)) == "NOT_TRUSTED"
    else:
        assert made.identify(sign(**claims)).tenant == tenant


def test_the_principal_may_be_another_claim(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str], problem_of: Callable[..., str]
) -> None:
    made = verifier(principal_claim="azp")
    assert made.identify(sign(azp="app")).principal == "idp:app"
    assert problem_of(made.identify, sign()) == "NOT_TRUSTED"


def test_a_public_key_is_no_shared_secret(
    verifier: Callable[..., TokenVerifier],
    signing_keys: dict[str, Any],
    problem_of: Callable[..., str],
    now_s: float,
) -> None:
    claims = {"iss": "https://idp", "aud": "agents", "sub": "eve", "exp": now_s + 60}
    public = signing_keys["rs"].public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        b"",
    ]
    for algorithm in ("HS256", "RS256", "ES256", "EdDSA"):
        for secret in secrets:
            text = f"{encoded({'alg': algorithm, 'kid': 'rs'})}.{encoded(claims)}"
            forged = hmac.new(secret, text.encode(), hashlib.sha256).digest()
            token = f"{text}.{encoded(forged)}"
            assert problem_of(verifier().identify, token) == "NOT_TRUSTED"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, ["RS256"], "HS256"])
def test_a_token_that_nobody_signed_is_refused(
    verifier: Callable[..., TokenVerifier], now_s: float, algorithm: Any
) -> None:
    claims = {"iss": "https://idp", "aud": "agents", "sub": "eve", "exp": now_s + 60}
    start = f"{encoded({'alg': algorithm, 'kid': 'rs'})}.{encoded(claims)}"
    for token in (f"{start}.", f"{start}.AA"):
        with pytest.raises(Unauthenticated):
            verifier().identify(token)


@pytest.mark.parametrize(
    ("kid", "header"),
    [
        ("rs", {"kid": "es"}),  # a key of another type
        ("rs2", {"kid": "rs"}),  # another key
        ("rs2", {}),  # not in the set
        ("rs2", {"kid": None}),
        ("rs", {"alg": "RS512"}),
        ("rs", {"alg": "PS256"}),
        ("es384", {"kid": "es", "alg": "ES384"}),
    ],
)
def test_a_token_of_the_wrong_key_or_algorithm_is_refused(
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    kid: str,
    header: dict[str, Any],
) -> None:
    assert problem_of(verifier().identify, sign(kid, header)) == "NOT_TRUSTED"


def test_an_issuer_may_be_held_to_fewer_algorithms(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str], problem_of: Callable[..., str]
) -> None:
    made = verifier(algorithms=("ES256",))
    assert made.identify(sign("es")).principal == "idp:alice"
    assert problem_of(made.identify, sign("rs")) == "NOT_TRUSTED"


def test_the_keys_of_one_issuer_do_not_sign_for_another(
    *,
    keys: KeySet,
    jwk: Callable[..., Any],
    jwks: Callable[..., bytes],
    sign: Callable[..., str],
    problem_of: Callable[..., str],
    clock: Any,
    tmp_path: Path,
) -> None:
    others = key_set(tmp_path / "b.json", jwks(jwk("rs2")))
    both = TokenVerifier(
        [Issuer("a", "https://a", ["agents"], keys), Issuer("b", "https://b", ["agents"], others)],
        clock,
    )
    assert both.identify(sign("rs", iss="https://a")).principal == "a:alice"
    assert both.identify(sign("rs2", iss="https://b")).principal == "b:alice"
    assert problem_of(both.identify, sign("rs2", iss="https://a")) == "NOT_TRUSTED"
    assert problem_of(both.identify, sign("rs2", {"kid": "rs"}, iss="https://a")) == "NOT_TRUSTED"


def test_a_changed_token_is_refused(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str], problem_of: Callable[..., str]
) -> None:
    header, _, signature = sign("es", scope="user").split(".")
    payload = sign("es", scope="admin").split(".")[1]
    assert problem_of(verifier().identify, f"{header}.{payload}.{signature}") == "NOT_TRUSTED"


def test_an_unknown_critical_header_is_refused(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str]
) -> None:
    for header in ({"crit": ["exp"], "exp": 1}, {"b64": False, "crit": ["b64"]}):
        with pytest.raises(Unauthenticated):
            verifier().identify(sign("rs", header))


def test_a_token_may_be_bound_to_a_certificate(
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    certificate: Callable[..., bytes],
    thumbprint_of: Callable[[bytes], str],
    problem_of: Callable[..., str],
) -> None:
    mine, other = certificate("mine"), certificate("other")
    token = sign(cnf={"x5t#S256": thumbprint_of(mine)})
    assert verifier().identify(token, mine).principal == "idp:alice"
    assert problem_of(verifier().identify, token, other) == "NOT_TRUSTED"
    assert problem_of(verifier().identify, token, None) == "NOT_TRUSTED"


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {}, "x", [], {"x5t#S256": 7}, {"x5t#S256": "é"}])
def test_a_token_that_is_bound_to_what_we_do_not_know_is_refused(
    verifier: Callable[..., TokenVerifier],
    sign: Callable[..., str],
    certificate: Callable[..., bytes],
    problem_of: Callable[..., str],
    cnf: Any,
) -> None:
    assert problem_of(verifier().identify, sign(cnf=cnf), certificate("a")) == "NOT_TRUSTED"


def test_the_size_of_a_token_is_bounded(
    verifier: Callable[..., TokenVerifier], sign: Callable[..., str], problem_of: Callable[..., str]
) -> None:
    fits, too_long = (sign(fill="x" * size) for size in (5000, MAX_TOKEN_BYTES))
    assert verifier().identify(fits).principal == "idp:alice"
    assert problem_of(verifier().identify, too_long) == "MALFORMED"


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "key"},
        {"name": "spiffe"},
        {"name": "a:b"},
        {"name": "0a"},
        {"name": "a.b"},
        {"name": "a" * 33},
        {"name": ""},
        {"issuer": ""},
        {"audiences": []},
        {"audiences": [""]},
        {"algorithms": ["HS256"]},
        {"algorithms": []},
        {"tenant": "No Tenant"},
    ],
)
def test_an_issuer_that_cannot_be_meant_is_an_error_for_the_operator(
    verifier: Callable[..., TokenVerifier], settings: dict[str, Any]
) -> None:
    with pytest.raises(OperatorError):
        verifier(**settings)


@pytest.mark.parametrize(("name", "issuer"), [("a", "https://b"), ("b", "https://a")])
def test_two_issuers_have_names_and_claims_of_their_own(
    keys: KeySet, name: str, issuer: str
) -> None:
    with pytest.raises(OperatorError, match="two issuers"):
        TokenVerifier([Issuer("a", "https://a", ["x"], keys), Issuer(name, issuer, ["x"], keys)])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HEADERS = st.fixed_dictionaries(
    {"alg": JSON | st.sampled_from(["RS256", "ES256", "EdDSA", "none"])},
    optional={"kid": JSON | st.sampled_from(["rs", "es", "ed"]), "crit": JSON, "b64": JSON},
)
CLAIMS = st.fixed_dictionaries(
    {"iss": JSON | st.just("https://idp")}, optional={"exp": JSON, "aud": JSON, "cnf": JSON}
)
PARTS = st.binary(max_size=100) | JSON | HEADERS | CLAIMS
TOKENS = st.text(max_size=200) | st.lists(PARTS.map(encoded), max_size=5).map(".".join)
SIGNED_BADLY = st.tuples(HEADERS.map(encoded), CLAIMS.map(encoded), st.binary(min_size=1)).map(
    lambda parts: f"{parts[0]}.{parts[1]}.{encoded(parts[2])}"
)


@pytest.fixture(scope="session")
def plain_verifier(keys: KeySet) -> TokenVerifier:
    return TokenVerifier([Issuer("idp", "https://idp", ["agents"], keys)])


@given(token=TOKENS | SIGNED_BADLY)
def test_whatever_is_sent_it_is_refused_and_nothing_else(
    plain_verifier: TokenVerifier, token: str
) -> None:
    with pytest.raises(Unauthenticated) as caught:
        plain_verifier.identify(token, None)
    assert len(token) < 20 or token not in str(caught.value)


@pytest.mark.parametrize("part", [b"[" * 5000, b'{"a":' * 1000, b"9" * 5000, b"\xff\xfe"])
def test_hostile_json_is_refused(plain_verifier: TokenVerifier, part: bytes) -> None:
    good = encoded({"alg": "RS256", "kid": "rs"})
    for token in (f"{encoded(part)}.AA.AA", f"{good}.{encoded(part)}.AA"):
        with pytest.raises(Unauthenticated):
            plain_verifier.identify(token)


def test_a_good_signature_over_anything_is_verified_or_refused(
    plain_verifier: TokenVerifier, sign: Callable[..., str]
) -> None:
    @given(
        st.dictionaries(
            st.sampled_from(["exp", "nbf", "iat", "sub", "aud", "cnf", "scope", "jti"]), JSON
        )
    )
    def check(claims: dict[str, Any]) -> None:
        token = sign("ed", **claims)
        try:
            identity = plain_verifier.identify(token)
        except Unauthenticated:
            return
        assert identity.principal.isprintable()

    check()
