"""Who calls, by the certificate that TLS verified."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from kotaemon_grpc.auth.identity import CERTIFICATE, Identity
from kotaemon_grpc.auth.naming import check_tenant, compiled
from kotaemon_grpc.core.errors import CredentialProblem, OperatorError, Unauthenticated
from kotaemon_grpc.core.model import DEFAULT_TENANT, RESOURCE_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_NAME_CHARS = 2048
"""SPIFFE-ID, section 2.3: no longer ID has to be supported."""

_SPIFFE = "spiffe://"
_KINDS = (
    (x509.DNSName, "dns:"),
    (x509.UniformResourceIdentifier, "uri:"),
    (x509.RFC822Name, "email:"),
)
_GROUP = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class CertificateRule:
    r"""What the name of a certificate says of its holder.

    Args:
        pattern: a regular expression for the whole name with its prefix, as
            `spiffe://example\.org/tenant/(?P<tenant>[a-z0-9-]+)/.*`.
        principal: in which `{tenant}` stands for that group; empty keeps the name.
        tenant: likewise; empty leaves the tenant to the default, or to a token.
        roles: those of the holder.

    Raises:
        OperatorError: the pattern is none, a group is missing, or the tenant is no
            valid id.
    """

    pattern: str
    principal: str = ""
    tenant: str = ""
    roles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check it."""
        groups = compiled(self.pattern).groupindex
        for template in (self.principal, self.tenant):
            for group in _GROUP.findall(template):
                if group not in groups:
                    raise OperatorError(f'"{self.pattern}" has no group "{group}"')
        if self.tenant and not _GROUP.search(self.tenant):
            check_tenant(self.tenant)


@dataclass(frozen=True, slots=True)
class Recognised:
    """Who a certificate names. `states_tenant`: its rule says of which tenant."""

    identity: Identity
    states_tenant: bool


class CertificateVerifier:
    """Names the holders of certificates. That these are of a trusted CA is TLS's business."""

    def __init__(
        self, rules: Sequence[CertificateRule] = (), clock: Callable[[], float] = time.time
    ) -> None:
        """Take the rules, the first that fits decides; without any, each name is welcome."""
        self._clock = clock
        self.use(rules)

    def use(self, rules: Sequence[CertificateRule]) -> None:
        """Take other rules in place of these."""
        self._rules = tuple((compiled(rule.pattern), rule) for rule in rules)

    def identify(self, pem: bytes) -> Identity:
        """Return whom a certificate names.

        Raises:
            Unauthenticated: it is not valid now, names nobody, or no rule fits.
        """
        return self.recognise(pem).identity

    def recognise(self, pem: bytes) -> Recognised:
        """Return whom a certificate names, and whether with a tenant.

        Raises:
            Unauthenticated: it is not valid now, names nobody, or no rule fits.
        """
        certificate = _load(pem)
        now_s = self._clock()
        # A connection outlives the certificate that opened it.
        if certificate.not_valid_after_utc.timestamp() <= now_s:
            raise Unauthenticated(CredentialProblem.EXPIRED, "certificate")
        if certificate.not_valid_before_utc.timestamp() > now_s:
            raise Unauthenticated(CredentialProblem.NOT_YET_VALID, "certificate")
        principal, tenant, roles = self._apply(_name(certificate))
        if not is_name(principal, MAX_NAME_CHARS):
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "name of the certificate")
        identity = Identity(
            principal=principal,
            tenant=tenant or DEFAULT_TENANT,
            roles=frozenset(roles),
            credential=CERTIFICATE,
            expires_at=certificate.not_valid_after_utc.timestamp(),
        )
        return Recognised(identity, states_tenant=bool(tenant))

    def _apply(self, name: str) -> tuple[str, str, tuple[str, ...]]:
        if not self._rules:
            return name, "", ()
        for pattern, rule in self._rules:
            if match := pattern.fullmatch(name):
                principal, tenant = (_fill(t, match) for t in (rule.principal, rule.tenant))
                if rule.tenant and not RESOURCE_ID.fullmatch(tenant):
                    break
                return (principal if rule.principal else name), tenant, rule.roles
        raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "name of the certificate")


def thumbprint(pem: bytes) -> str:
    """Return a certificate's `x5t#S256` (RFC 8705, section 3.1).

    Raises:
        Unauthenticated: it is no certificate.
    """
    digest = _load(pem).fingerprint(hashes.SHA256())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_name(text: str, max_chars: int) -> bool:
    """Tell whether a text may name a principal: neither empty nor with control characters."""
    return 0 < len(text) <= max_chars and text.isprintable()


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise Unauthenticated(CredentialProblem.MALFORMED, "certificate") from None


def _name(certificate: x509.Certificate) -> str:
    """Choose the name: SPIFFE ID, else DNS, URI or e-mail name, else common name."""
    try:
        names = _alternative_names(certificate)
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Unauthenticated(CredentialProblem.MALFORMED, "certificate") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if any(uri.startswith(_SPIFFE) for uri in uris):
        if len(uris) > 1:  # X509-SVID, section 2: an SVID has exactly one URI
            raise Unauthenticated(CredentialProblem.MALFORMED, "names of the certificate")
        return uris[0]
    for kind, prefix in _KINDS:
        for value in names.get_values_for_type(kind):
            if value:
                return f"{prefix}{value}"
    for attribute in common:
        if isinstance(attribute.value, str) and attribute.value:
            return f"cn:{attribute.value}"
    raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "name of the certificate")


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def _fill(template: str, match: re.Match[str]) -> str:
    return _GROUP.sub(lambda group: match[group[1]] or "", template)
