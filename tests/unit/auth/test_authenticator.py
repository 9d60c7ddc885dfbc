from __future__ import annotations

import asyncio
import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
from kotaemon_grpc.auth.authenticator import RECALLED_S, Authenticator
from kotaemon_grpc.auth.certificate import CertificateRule, CertificateVerifier
from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.jwt import Issuer, TokenVerifier
from kotaemon_grpc.auth.key_file import KeyFile
from kotaemon_grpc.core.errors import OperatorError, TlsTooOld, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CERT, JWT, KEY, NONE = "certificate", "jwt", "api_key", "none"
CERT_JWT, CERT_KEY = "certificate+jwt", "certificate+api_key"
RULES = [
    CertificateRule("cn:(?P<t>t-[0-9])", tenant="{t}", roles=("node",)),
    CertificateRule("cn:[a-z]+"),
]


class Counted:
    """A verifier, and how often it was asked."""

    def __init__(self, verifier: Any) -> None:
        self.count = 0
        self._verifier = verifier

    def __getattr__(self, name: str) -> Any:
        self.count += 1
        return getattr(self._verifier, name)


class World:
    """All verifiers, and credentials that are good or bad for them."""

    def __init__(
        self, directory: Path, clock: Any, certificate: Any, sign: Any, keys: bytes
    ) -> None:
        self.clock = clock
        (directory / "jwks.json").write_bytes(keys)
        key_set = KeySet(str(directory / "jwks.json"))
        file = KeyFile(directory / "keys.json", lambda: dt.datetime.fromtimestamp(clock(), dt.UTC))
        _, self.key = file.create(
            "ci", tenant="t-1", roles=("user",), life=dt.timedelta(seconds=90)
        )
        api_keys = ApiKeyVerifier(file.path, clock=clock)
        asyncio.run(key_set.load())
        asyncio.run(api_keys.load())
        issuer = Issuer(
            *("idp", "https://idp", ["agents"], key_set),
            leeway_s=0,
            tenant_claim="t",
            roles_by_scope={"edit": ("editor",)},
        )
        self.certificates = Counted(CertificateVerifier(RULES, clock))
        self.tokens = Counted(TokenVerifier([issuer], clock))
        self.api_keys = Counted(api_keys)
        self.sign = sign
        self.token = sign("ed", t="t-1", scope="edit")
        self.certificate = certificate
        self.pems = {
            "plain": certificate("plain"),
            "t-1": certificate("t-1"),
            "t-2": certificate("t-2"),
            "unknown": certificate("?"),
            "short": certificate("plain", end_s=clock() + 30),
        }

    def listener(self, *accepts: str, **settings: Any) -> Authenticator:
        verifiers = {
            "certificates": self.certificates,
            "tokens": self.tokens,
            "api_keys": self.api_keys,
        }
        return Authenticator(
            accepts=frozenset(accepts), clock=self.clock, **{**verifiers, **settings}
        )

    def shown(self, *what: str, tls: bytes = b"TLSv1.3") -> tuple[dict[str, Any], dict[str, str]]:
        """Make the auth context and the metadata of a call, as `shown("t-1", "token")`."""
        context: dict[str, Any] = {"ssl_tls_version": [tls]}
        metadata: dict[str, str] = {"user-agent": "x"}
        for each in what:
            if each in self.pems:
                context["x509_pem_cert"] = [self.pems[each]]
            elif "token" in each:
                token = self.token if each == "token" else f"{self.token[:-8]}AAAAAAAA"
                metadata["authorization"] = f"Bearer {token}"
            else:
                key = self.key if each == "key" else f"{self.key[:-8]}AAAAAAAA"
                metadata["x-api-key"] = key
        return context, metadata


@pytest.fixture
def world(
    *,
    tmp_path: Path,
    clock: Any,
    certificate: Callable[..., bytes],
    sign: Callable[..., str],
    jwk: Callable[..., Any],
    jwks: Callable[..., bytes],
) -> World:
    return World(tmp_path, clock, certificate, sign, jwks(jwk("ed")))


CN, TOKEN_WHO, KEY_WHO = "cn:plain", "idp:alice", "key:ci"


@pytest.mark.parametrize(
    ("accepts", "shown", "who", "credential"),
    [
        # one credential
        ([CERT], ["plain"], CN, CERT),
        ([CERT], ["unknown"], "NOT_TRUSTED", ""),
        ([CERT], [], "MISSING", ""),
        ([JWT], ["token"], TOKEN_WHO, JWT),
        ([JWT], ["bad token"], "NOT_TRUSTED", ""),
        ([JWT], [], "MISSING", ""),
        ([JWT], ["plain"], "MISSING", ""),
        ([KEY], ["key"], KEY_WHO, KEY),
        ([KEY], ["bad key"], "NOT_TRUSTED", ""),
        ([KEY], [], "MISSING", ""),
        ([NONE], [], "anonymous", NONE),
        ([NONE], ["plain"], "anonymous", NONE),
        # what the listener does not look at is ignored
        ([CERT], ["plain", "bad token", "bad key"], CN, CERT),
        ([JWT], ["token", "bad key"], TOKEN_WHO, JWT),
        ([JWT], ["unknown", "token"], TOKEN_WHO, JWT),
        ([KEY], ["key", "bad token"], KEY_WHO, KEY),
        ([NONE], ["bad token", "bad key"], "anonymous", NONE),
        # any of several
        ([CERT, JWT], ["plain"], CN, CERT),
        ([CERT, JWT], ["plain", "token"], TOKEN_WHO, JWT),
        ([CERT, JWT], ["plain", "bad token"], "NOT_TRUSTED", ""),
        ([JWT, KEY], ["token"], TOKEN_WHO, JWT),
        ([JWT, KEY], ["key"], KEY_WHO, KEY),
        ([JWT, KEY], ["token", "key"], "MALFORMED", ""),
        ([JWT, NONE], [], "anonymous", NONE),
        ([JWT, NONE], ["bad token"], "NOT_TRUSTED", ""),
        # both at once
        ([CERT_JWT], ["plain", "token"], TOKEN_WHO, CERT_JWT),
        ([CERT_JWT], ["plain"], "MISSING", ""),
        ([CERT_JWT], ["token"], "MISSING", ""),
        ([CERT_JWT], ["unknown", "token"], "NOT_TRUSTED", ""),
        ([CERT_JWT], ["plain", "bad token"], "NOT_TRUSTED", ""),
        ([CERT_JWT], ["t-1", "token"], TOKEN_WHO, CERT_JWT),
        ([CERT_JWT], ["t-2", "token"], "NOT_TRUSTED", ""),
        ([CERT_KEY], ["t-1", "key"], KEY_WHO, CERT_KEY),
        ([CERT_KEY], ["t-2", "key"], "NOT_TRUSTED", ""),
        ([CERT_KEY], ["plain"], "MISSING", ""),
        ([CERT_KEY], ["key"], "MISSING", ""),
        # both, or one
        ([CERT, CERT_JWT], ["plain"], CN, CERT),
        ([CERT, CERT_JWT], ["plain", "token"], TOKEN_WHO, CERT_JWT),
        ([CERT, CERT_JWT], ["plain", "bad token"], "NOT_TRUSTED", ""),
        ([JWT, CERT_JWT], ["token"], TOKEN_WHO, JWT),
        ([JWT, CERT_JWT], ["t-2", "token"], "NOT_TRUSTED", ""),
        ([CERT_JWT, CERT_KEY], ["plain", "key"], KEY_WHO, CERT_KEY),
        ([CERT_JWT, CERT_KEY], ["plain", "token"], TOKEN_WHO, CERT_JWT),
    ],
)
def test_who_calls_by_what_is_accepted_and_what_was_shown(
    *,
    world: World,
    problem_of: Callable[..., str],
    accepts: list[str],
    shown: list[str],
    who: str,
    credential: str,
) -> None:
    listener, call = world.listener(*accepts), world.shown(*shown)
    for _ in range(2):  # the second time it may be known
        if credential:
            identity = listener.identify(*call)
            assert (identity.principal, identity.credential) == (who, credential)
        else:
            assert problem_of(listener.identify, *call) == who


def test_together_roles_and_tenant_are_the_tokens_and_the_shorter_life_counts(
    world: World, now_s: float
) -> None:
    listener = world.listener(CERT_JWT, CERT_KEY)
    found = [
        listener.identify(*world.shown(*shown))
        for shown in (("t-1", "token"), ("short", "token"), ("t-1", "key"), ("short", "key"))
    ]
    assert [identity.expires_at - now_s for identity in found] == [60, 30, 90, 30]
    assert [identity.roles for identity in found] == [{"editor"}] * 2 + [{"user"}] * 2
    assert {identity.tenant for identity in found} == {"t-1"}


def test_anonymous_has_no_roles_and_no_end(world: World) -> None:
    identity = world.listener(NONE).identify({}, {})
    assert (identity.tenant, identity.roles, identity.expires_at) == (
        "default",
        frozenset(),
        math.inf,
    )


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Basic dXNlcjpwdw==", "Bearer a b.c.d", "Bearer ", b"Bearer x.y.z"]
)
def test_a_header_that_is_no_bearer_token_is_refused(
    world: World, problem_of: Callable[..., str], value: Any
) -> None:
    listener = world.listener(CERT, JWT)
    context, _ = world.shown("plain")
    assert problem_of(listener.identify, context, {"authorization": value}) == "MALFORMED"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer"])
def test_the_scheme_may_be_of_any_case(world: World, scheme: str) -> None:
    listener = world.listener(JWT)
    metadata = {"authorization": f"{scheme} {world.token}"}
    assert listener.identify({}, metadata).principal == TOKEN_WHO


@pytest.mark.parametrize("around", [" {}", "{} ", "\t{}", "  {}"])
def test_a_token_has_one_spelling(
    world: World, around: str, problem_of: Callable[..., str]
) -> None:
    metadata = {"authorization": f"Bearer {around.format(world.token)}"}
    assert problem_of(world.listener(JWT).identify, {}, metadata) == "MALFORMED"


def test_an_api_key_that_is_no_text_is_refused(
    world: World, problem_of: Callable[..., str]
) -> None:
    listener = world.listener(KEY)
    assert problem_of(listener.identify, {}, {"x-api-key": world.key.encode()}) == "MALFORMED"


def test_the_token_sees_the_certificate_it_may_be_bound_to(
    world: World, thumbprint_of: Callable[[bytes], str], problem_of: Callable[..., str]
) -> None:
    world.token = world.sign("ed", t="t-1", cnf={"x5t#S256": thumbprint_of(world.pems["t-1"])})
    for listener in (world.listener(JWT), world.listener(CERT_JWT)):
        assert listener.identify(*world.shown("t-1", "token")).principal == TOKEN_WHO
        assert problem_of(listener.identify, *world.shown("plain", "token")) == "NOT_TRUSTED"
    assert problem_of(world.listener(JWT).identify, *world.shown("token")) == "NOT_TRUSTED"


@pytest.mark.parametrize("tls", [b"TLSv1.2", b"", b"\xff"])
def test_tls_1_3_may_be_required_of_known_callers_too(world: World, tls: bytes) -> None:
    listener = world.listener(CERT, min_tls="1.3")
    assert listener.identify(*world.shown("plain")).principal == CN
    with pytest.raises(TlsTooOld) as caught:
        listener.identify(*world.shown("plain", tls=tls))
    assert caught.value.required == "TLSv1.3"
    with pytest.raises(TlsTooOld):
        listener.identify({}, {})
    assert world.listener(CERT).identify(*world.shown("plain", tls=tls)).principal == CN


def test_a_known_caller_is_not_verified_again(world: World) -> None:
    listener = world.listener(CERT_JWT)
    first = listener.identify(*world.shown("plain", "token"))
    # gRPC gives other objects of the same content for every call.
    context, metadata = world.shown("plain", "token")
    context["x509_pem_cert"] = [bytes(bytearray(world.pems["plain"]))]
    assert listener.identify(context, metadata) is first
    assert (world.tokens.count, world.certificates.count) == (1, 1)


def test_what_is_not_looked_at_makes_no_further_caller(world: World) -> None:
    listener = world.listener(CERT)
    context, _ = world.shown("plain")
    for number in range(5):
        listener.identify(context, {"authorization": f"Bearer {number}", "x-api-key": str(number)})
    assert world.certificates.count == 1


def test_each_combination_is_a_caller_of_its_own(
    world: World, problem_of: Callable[..., str]
) -> None:
    listener = world.listener(CERT_JWT)
    listener.identify(*world.shown("t-1", "token"))
    assert problem_of(listener.identify, *world.shown("t-2", "token")) == "NOT_TRUSTED"
    assert problem_of(listener.identify, *world.shown("t-1", "bad token")) == "NOT_TRUSTED"
    assert problem_of(listener.identify, *world.shown("t-1")) == "MISSING"


@pytest.mark.parametrize(
    ("accepts", "shown", "life_s"),
    [
        (JWT, ["token"], 60),
        (KEY, ["key"], 90),
        (CERT, ["short"], 30),
        (CERT_JWT, ["short", "token"], 30),
    ],
)
def test_nobody_is_known_for_longer_than_the_credentials_are_valid(
    world: World,
    problem_of: Callable[..., str],
    accepts: str,
    shown: list[str],
    life_s: float,
) -> None:
    listener, call = world.listener(accepts), world.shown(*shown)
    first = listener.identify(*call)
    world.clock.now_s += life_s - 0.1
    assert listener.identify(*call) is first
    world.clock.now_s += 0.1
    assert problem_of(listener.identify, *call) == "EXPIRED"


def test_a_refusal_is_not_remembered(world: World, problem_of: Callable[..., str]) -> None:
    listener = world.listener(JWT)
    for count in (1, 2):
        assert problem_of(listener.identify, *world.shown("bad token")) == "NOT_TRUSTED"
        assert world.tokens.count == count


def test_when_it_is_full_the_oldest_caller_goes(world: World) -> None:
    listener = world.listener(CERT, max_cached=2)
    for name in ("plain", "t-1", "plain", "t-2", "t-1", "t-2"):
        listener.identify(*world.shown(name))
    assert world.certificates.count == 3
    listener.identify(*world.shown("plain"))
    assert world.certificates.count == 4
    listener.identify(*world.shown("t-2"))
    assert world.certificates.count == 4


def test_what_is_forgotten_is_verified_again(world: World) -> None:
    listener = world.listener(JWT)
    first = listener.identify(*world.shown("token"))
    listener.forget()
    assert listener.identify(*world.shown("token")) is not first
    assert world.tokens.count == 2


PEER = "ipv4:192.0.2.1:4242"
SPIFFE = (b"host.example", b"spiffe://example.org/agent")


def test_a_workload_is_recalled_on_its_connection_with_what_it_showed(world: World) -> None:
    listener = world.listener(CERT_JWT)
    context, metadata = world.shown("plain", "token")
    identity = listener.identify(context, metadata)
    assert listener.recall(PEER, SPIFFE, metadata) is None
    listener.remember(PEER, SPIFFE, metadata, identity)
    assert listener.recall(PEER, list(SPIFFE), {**metadata, "user-agent": "y"}) is identity
    assert listener.recall("ipv4:192.0.2.1:4243", SPIFFE, metadata) is None
    assert listener.recall(PEER, SPIFFE[1:], metadata) is None
    assert listener.recall(PEER, SPIFFE, {}) is None
    assert listener.recall(PEER, SPIFFE, {"authorization": metadata["authorization"] + "x"}) is None
    listener.forget()
    assert listener.recall(PEER, SPIFFE, metadata) is None


@pytest.mark.parametrize("names", [(), (b"host.example",), (b"https://example.org",)])
def test_whoever_has_no_spiffe_id_is_not_recalled(names: tuple[bytes, ...], world: World) -> None:
    listener = world.listener(CERT)
    context, metadata = world.shown("plain")
    listener.remember(PEER, names, metadata, listener.identify(context, metadata))
    assert listener.recall(PEER, names, metadata) is None


def test_who_needs_tls_1_3_is_not_recalled(world: World) -> None:
    listener = world.listener(CERT, min_tls="1.3")
    context, metadata = world.shown("plain")
    listener.remember(PEER, SPIFFE, metadata, listener.identify(context, metadata))
    assert listener.recall(PEER, SPIFFE, metadata) is None


@pytest.mark.parametrize("life_s", [RECALLED_S, RECALLED_S / 2])
def test_nobody_is_recalled_for_longer_than_that_or_than_the_credentials_are_valid(
    life_s: float, world: World
) -> None:
    listener = world.listener(CERT)
    context, metadata = world.shown("plain")
    end_s = world.clock.now_s + life_s
    identity = replace(listener.identify(context, metadata), expires_at=end_s)
    listener.remember(PEER, SPIFFE, metadata, identity)
    world.clock.now_s = end_s - 0.001
    assert listener.recall(PEER, SPIFFE, metadata) is identity
    world.clock.now_s = end_s
    assert listener.recall(PEER, SPIFFE, metadata) is None


def test_those_that_are_recalled_are_bounded(world: World) -> None:
    listener = world.listener(CERT, max_cached=2)
    context, metadata = world.shown("plain")
    identity = listener.identify(context, metadata)
    for peer in ("a", "b", "c"):
        listener.remember(peer, SPIFFE, metadata, identity)
    assert [listener.recall(peer, SPIFFE, metadata) for peer in "abc"] == [None, identity, identity]


def test_who_is_remembered_again_takes_nobodys_place(world: World) -> None:
    listener = world.listener(CERT, max_cached=2)
    context, metadata = world.shown("plain")
    identity = listener.identify(context, metadata)
    for peer in ("a", "b", "b"):
        listener.remember(peer, SPIFFE, metadata, identity)
    assert [listener.recall(peer, SPIFFE, metadata) for peer in "ab"] == [identity, identity]


def test_it_is_told_how_a_connection_is_secured_when_its_caller_is_new(
    world: World, problem_of: Callable[..., str]
) -> None:
    told: list[Any] = []
    listener = world.listener(CERT, JWT, on_verified=lambda *tls: told.append(tls))
    context, metadata = world.shown("plain")
    context["ssl_negotiated_key_exchange_group"] = [b"X25519MLKEM768"]
    for _ in range(3):
        listener.identify(context, metadata)
    assert told == [("TLSv1.3", "X25519MLKEM768")]
    listener.identify({}, world.shown("token")[1])
    assert told[1:] == [("", "")]
    assert problem_of(listener.identify, *world.shown("bad token")) == "NOT_TRUSTED"
    assert len(told) == 2
    listener.forget()
    listener.identify(context, metadata)
    assert len(told) == 3


def test_no_secret_is_shown(world: World) -> None:
    listener = world.listener(JWT, KEY)
    texts = [repr(listener.identify(*world.shown(each))) for each in ("token", "key")]
    for shown in ("bad token", "bad key"):
        with pytest.raises(Unauthenticated) as caught:
            listener.identify(*world.shown(shown))
        texts += [str(caught.value), repr(caught.value)]
    texts.append(repr(listener))
    for text in texts:
        assert world.token.split(".")[2] not in text
        assert world.token.split(".")[1] not in text
        assert world.key.split(".")[1][:20] not in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accepts": frozenset()}, "one or more of"),
        ({"accepts": frozenset({"password"})}, "one or more of"),
        ({"accepts": frozenset({JWT})}, '"jwt", and nothing verifies it; set "identity.issuers"'),
        ({"accepts": frozenset({KEY})}, 'verifies it; set "identity.api_keys_file"'),
        ({"accepts": frozenset({CERT_KEY})}, '"certificate", and nothing verifies it$'),
        ({"accepts": frozenset({NONE}), "min_tls": "1.1"}, "least version"),
    ],
)
def test_a_listener_that_cannot_be_meant_is_an_error_for_the_operator(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(OperatorError, match=message):
        Authenticator(**settings)


def test_whatever_is_sent_it_is_refused_and_nothing_else(world: World) -> None:
    listener = world.listener(JWT, KEY, CERT_JWT)

    @given(
        st.dictionaries(
            st.sampled_from(["authorization", "x-api-key"]),
            st.text() | st.text().map("Bearer {}".format) | st.binary(),
            min_size=1,
        ),
        st.none() | st.binary(),
    )
    def check(metadata: dict[str, str | bytes], pem: bytes | None) -> None:
        context = {} if pem is None else {"x509_pem_cert": [pem]}
        with pytest.raises(Unauthenticated):
            listener.identify(context, metadata)

    check()
