from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.auth.certificate import CertificateRule, CertificateVerifier
from kotaemon_grpc.core.errors import OperatorError, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable

DNS = [x509.DNSName("a.org"), x509.DNSName("b.org")]
URI = [x509.UniformResourceIdentifier("https://a.org/x")]
SPIFFE = [x509.UniformResourceIdentifier("spiffe://a.org/ns/x")]
EMAIL = [x509.RFC822Name("ops@a.org")]
RULE = CertificateRule(
    r"spiffe://a\.org/(?P<tenant>[^/]+)/(?P<who>.+)", "agent-{who}", "{tenant}", ("user",)
)


def spiffe(path: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(f"spiffe://a.org/{path}")]


@pytest.mark.parametrize(
    ("common_name", "names", "principal"),
    [
        ("cn", [*EMAIL, *DNS, *SPIFFE], "spiffe://a.org/ns/x"),
        ("cn", [*EMAIL, *URI, *DNS], "dns:a.org"),
        ("cn", [*EMAIL, *URI], "uri:https://a.org/x"),
        ("cn", EMAIL, "email:ops@a.org"),
        ("cn", [], "cn:cn"),
    ],
)
def test_the_best_name_wins(
    *,
    certificate: Callable[..., bytes],
    clock: Any,
    now_s: float,
    common_name: str,
    names: list[Any],
    principal: str,
) -> None:
    identity = CertificateVerifier(clock=clock).identify(certificate(common_name, names))
    assert identity.principal == principal
    assert (identity.tenant, identity.roles, identity.credential) == (
        "default",
        frozenset(),
        "certificate",
    )
    assert identity.expires_at == now_s + 3600


@pytest.mark.parametrize(
    ("common_name", "names", "problem"),
    [
        ("", [], "NOT_TRUSTED"),
        ("a\nb", [], "NOT_TRUSTED"),
        ("cn", [*SPIFFE, *URI], "MALFORMED"),
    ],
)
def test_a_certificate_without_a_usable_name_is_refused(
    *,
    certificate: Callable[..., bytes],
    clock: Any,
    problem_of: Callable[..., str],
    common_name: str,
    names: list[Any],
    problem: str,
) -> None:
    verifier = CertificateVerifier(clock=clock)
    assert problem_of(verifier.identify, certificate(common_name, names)) == problem


@pytest.mark.parametrize(
    ("offset_s", "problem"),
    [(-61, "NOT_YET_VALID"), (-60, None), (3599, None), (3600, "EXPIRED")],
)
def test_a_certificate_is_good_from_its_start_until_its_end(
    certificate: Callable[..., bytes],
    clock: Any,
    problem_of: Callable[..., str],
    offset_s: float,
    problem: str | None,
) -> None:
    verifier, pem = CertificateVerifier(clock=clock), certificate("cn")
    clock.now_s += offset_s
    if problem is None:
        assert verifier.identify(pem).principal == "cn:cn"
    else:
        assert problem_of(verifier.identify, pem) == problem


def test_a_rule_makes_principal_tenant_and_roles(
    certificate: Callable[..., bytes], clock: Any
) -> None:
    found = CertificateVerifier([RULE], clock).recognise(certificate("", spiffe("t-1/x/y")))
    assert found.states_tenant
    identity = found.identity
    assert (identity.principal, identity.tenant) == ("agent-x/y", "t-1")
    assert identity.roles == {"user"}


def test_the_first_rule_that_fits_the_whole_name_decides(
    certificate: Callable[..., bytes], clock: Any
) -> None:
    rules = [CertificateRule("cn:a", tenant="first"), CertificateRule("cn:.*")]
    verifier = CertificateVerifier(rules, clock)
    first, other = (verifier.recognise(certificate(name)) for name in ("a", "ab"))
    assert (first.identity.principal, first.identity.tenant) == ("cn:a", "first")
    assert first.states_tenant
    assert (other.identity.principal, other.identity.tenant) == ("cn:ab", "default")
    assert not other.states_tenant


@pytest.mark.parametrize(
    "names",
    [
        spiffe("t"),  # no rule fits
        spiffe("T/x"),  # no tenant has capitals
        DNS,
    ],
)
def test_with_rules_a_name_that_none_fits_is_refused(
    certificate: Callable[..., bytes],
    clock: Any,
    problem_of: Callable[..., str],
    names: list[Any],
) -> None:
    verifier = CertificateVerifier([RULE], clock)
    assert problem_of(verifier.identify, certificate("", names)) == "NOT_TRUSTED"


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "cn:.*", "tenant": "{tenant}"}, 'no group "tenant"'),
        ({"pattern": "cn:.*", "principal": "{who}"}, 'no group "who"'),
        ({"pattern": "cn:.*", "tenant": "A B"}, "a tenant has lower-case"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_an_error_for_the_operator(
    rule: dict[str, Any], message: str
) -> None:
    with pytest.raises(OperatorError, match=message):
        CertificateRule(**rule)


@given(st.binary(max_size=300), st.booleans())
def test_bytes_that_are_no_certificate_are_refused(content: bytes, framed: bool) -> None:  # noqa: FBT001 - given by position
    lines = (b"-----BEGIN CERTIFICATE-----\n", content, b"\n-----END CERTIFICATE-----\n")
    with pytest.raises(Unauthenticated):
        CertificateVerifier().identify(b"".join(lines) if framed else content)
