"""Who calls, by a JSON Web Token (RFC 7519, 8725) that an identity provider signed."""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jwt import PyJWT
from jwt.exceptions import (
    InvalidAudienceError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from kotaemon_grpc.auth.certificate import is_name, thumbprint
from kotaemon_grpc.auth.claims import claim, satisfies, seconds, words
from kotaemon_grpc.auth.identity import JWT, Identity
from kotaemon_grpc.auth.naming import (
    ALGORITHMS,
    check_algorithms,
    check_issuer_name,
    check_issuers,
    check_tenant,
)
from kotaemon_grpc.core.errors import CredentialProblem, OperatorError, Unauthenticated
from kotaemon_grpc.core.model import DEFAULT_TENANT, RESOURCE_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from kotaemon_grpc.auth.claims import Wanted
    from kotaemon_grpc.auth.jwks import KeySet

_UNREADABLE = (PyJWTError, ValueError, RecursionError)
_CAUSES: dict[type[Exception], str] = {
    InvalidAudienceError: "audience",
    InvalidSignatureError: "signature",
    MissingRequiredClaimError: "audience",
}

MAX_TOKEN_BYTES = 8 * 1024
MAX_PRINCIPAL_CHARS = 256

_COMPACT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)  # RFC 7515, section 3.1


@dataclass(frozen=True, slots=True)
class Issuer:
    """An identity provider, and what its tokens say of a caller.

    Args:
        name: what the names of its principals begin with.
        issuer: the claim `iss` of its tokens, exactly.
        audiences: of which a token must have one in its claim `aud`.
        keys: its current keys.
        algorithms: those that it may sign with, of `ALGORITHMS`.
        leeway_s: how far clocks may be apart, in seconds.
        required_claims: what other claims must be; an empty list: anything.
        principal_claim: the claim that names the caller.
        tenant: of all its callers, unless `tenant_claim` is given.
        tenant_claim: the claim that has it; a token without is refused.
        scope_claim: the claim that has the scopes, as text with spaces or as a list.
        roles_by_scope: the roles that each scope grants; others grant none.

    Raises:
        OperatorError: one of these is not valid.
    """

    name: str
    issuer: str
    audiences: Sequence[str]
    keys: KeySet = field(repr=False)
    algorithms: Collection[str] = ALGORITHMS
    leeway_s: float = 30.0
    required_claims: Mapping[str, Wanted] = field(default_factory=dict)
    principal_claim: str = "sub"
    tenant: str = DEFAULT_TENANT
    tenant_claim: str = ""
    scope_claim: str = "scope"
    roles_by_scope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check it."""
        check_issuer_name(self.name)
        if not self.issuer or not self.audiences or not all(self.audiences):
            raise OperatorError(f'issuer "{self.name}" needs the claim iss and an audience')
        check_algorithms(self.algorithms)
        check_tenant(self.tenant)


class TokenVerifier:
    """Verifies tokens of one or more issuers."""

    def __init__(self, issuers: Sequence[Issuer], clock: Callable[[], float] = time.time) -> None:
        """Take the issuers, and the seconds since the Unix epoch.

        Raises:
            OperatorError: two issuers have the same name or claim.
        """
        check_issuers(issuers)
        self._issuers = {each.issuer: each for each in issuers}
        self._clock = clock
        self._jwt = PyJWT()

    def identify(self, token: str, certificate: bytes | None = None) -> Identity:
        """Return whom a token names.

        Args:
            token: the token alone, without `Bearer`.
            certificate: what the caller showed to TLS, PEM; None if nothing.

        Raises:
            Unauthenticated: it is of no issuer that is known, not for us, not valid now,
                or bound to another certificate.
            CredentialsSourceUnavailable: its issuer's keys could not be read yet.
        """
        issuer, claims = self._verified(token)
        expires_at = self._check_times(claims, issuer.leeway_s)
        if not all(satisfies(claims, *each) for each in issuer.required_claims.items()):
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "required claims")
        _check_binding(claims, certificate)
        return Identity(
            principal=_principal(issuer, claims),
            tenant=_tenant(issuer, claims),
            roles=_roles(issuer, claims),
            credential=JWT,
            expires_at=expires_at,
        )

    def _verified(self, token: str) -> tuple[Issuer, dict[str, Any]]:
        """Return the issuer that signed a token for us, and its claims."""
        if len(token) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise Unauthenticated(CredentialProblem.MALFORMED, "token")
        try:
            # Nothing is believed yet: it only picks the keys that could make it true.
            shown = self._jwt.decode_complete(token, options={"verify_signature": False})
        except _UNREADABLE:
            raise Unauthenticated(CredentialProblem.MALFORMED, "token") from None
        header, name = shown["header"], shown["payload"].get("iss")
        algorithm, kid = header.get("alg"), header.get("kid")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None or not isinstance(algorithm, str) or not isinstance(kid, str | None):
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "issuer")
        key = issuer.keys.find(kid, algorithm) if algorithm in issuer.algorithms else None
        if key is None:
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "key or algorithm")
        try:
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[algorithm],  # the only one that this key is good for
                audience=issuer.audiences,
                issuer=issuer.issuer,
                # By our clock instead: see _check_times.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except _UNREADABLE as error:
            raise Unauthenticated(
                CredentialProblem.NOT_TRUSTED, _CAUSES.get(type(error), "token")
            ) from None
        return issuer, claims

    def _check_times(self, claims: Mapping[str, object], leeway_s: float) -> float:
        """Return until when a token is good."""
        now_s = self._clock()
        expiry_s = seconds(claims, "exp")
        if expiry_s is None:
            raise Unauthenticated(CredentialProblem.MALFORMED, "exp")
        if expiry_s + leeway_s <= now_s:
            raise Unauthenticated(CredentialProblem.EXPIRED, "exp")
        for name in ("nbf", "iat"):
            if (seconds(claims, name) or 0) > now_s + leeway_s:
                raise Unauthenticated(CredentialProblem.NOT_YET_VALID, name)
        return expiry_s + leeway_s


def _check_binding(claims: Mapping[str, object], certificate: bytes | None) -> None:
    """Check the key that a token is bound to: a certificate's, the only kind that is known here.

    RFC 8705, section 3.1. A token that is bound to anything else could be a stolen one.
    """
    if "cnf" not in claims:
        return
    wanted = claim(claims["cnf"], "x5t#S256")
    if not (isinstance(wanted, str) and wanted.isascii() and certificate is not None):
        raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "cnf")
    if not hmac.compare_digest(wanted, thumbprint(certificate)):
        raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "cnf")


def _principal(issuer: Issuer, claims: Mapping[str, object]) -> str:
    subject = claim(claims, issuer.principal_claim)
    principal = f"{issuer.name}:{subject}"
    # Cut short, the names of two callers could be one.
    if not (isinstance(subject, str) and subject and is_name(principal, MAX_PRINCIPAL_CHARS)):
        raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "principal claim")
    return principal


def _tenant(issuer: Issuer, claims: Mapping[str, object]) -> str:
    if not issuer.tenant_claim:
        return issuer.tenant
    tenant = claim(claims, issuer.tenant_claim)
    if not (isinstance(tenant, str) and RESOURCE_ID.fullmatch(tenant)):
        raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "tenant claim")
    return tenant


def _roles(issuer: Issuer, claims: Mapping[str, object]) -> frozenset[str]:
    scopes = words(claim(claims, issuer.scope_claim))
    return frozenset[str]().union(*(issuer.roles_by_scope.get(each, ()) for each in scopes))
