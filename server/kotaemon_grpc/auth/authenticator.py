"""Who calls, by whatever a listener accepts. Runs for every call: verified callers are kept."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from kotaemon_grpc.auth import identity as credentials
from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.core.errors import (
    CredentialProblem,
    OperatorError,
    TlsTooOld,
    Unauthenticated,
)
from kotaemon_grpc.core.model import DEFAULT_TENANT
from kotaemon_grpc.wire import headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
    from kotaemon_grpc.auth.certificate import CertificateVerifier
    from kotaemon_grpc.auth.jwt import TokenVerifier

RECALLED_S = 10.0
"""How long a connection's certificate is not looked at again."""

_TLS_1_3 = "TLSv1.3"
_SPIFFE = b"spiffe://"
_BEARER = "bearer "  # RFC 6750, section 2.1; of any case: RFC 9110, section 11.1

_V = TypeVar("_V")
_Shown: TypeAlias = "tuple[bytes | None, str | bytes | None, str | bytes | None]"


class Authenticator:
    """Verifies the callers of one listener. Used on the event loop only.

    Args:
        accepts: which proofs are good, of `CREDENTIALS`, each alone. A token or an API
            key that is shown where one is accepted decides: a bad one is refused even
            if the rest were enough. One that is not accepted anywhere is ignored.
        certificates: verifies certificates.
        tokens: verifies tokens.
        api_keys: verifies API keys.
        min_tls: the least version of TLS, "1.2" or "1.3".
        clock: the seconds since the Unix epoch.
        max_cached: how many callers are kept.

    Raises:
        OperatorError: what is accepted is not known, or what verifies it is missing.
    """

    def __init__(
        self,
        *,
        accepts: frozenset[str],
        certificates: CertificateVerifier | None = None,
        tokens: TokenVerifier | None = None,
        api_keys: ApiKeyVerifier | None = None,
        min_tls: str = "1.2",
        clock: Callable[[], float] = time.time,
        max_cached: int = 10_000,
    ) -> None:
        _check(accepts, min_tls)
        self._accepts = accepts
        self._certificates = _needed(certificates, accepts, credentials.CERTIFICATE)
        self._tokens = _needed(tokens, accepts, credentials.JWT)
        self._api_keys = _needed(api_keys, accepts, credentials.API_KEY)
        self._needs_tls_1_3 = min_tls == "1.3"
        self._clock = clock
        self._max_cached = max_cached
        self._cache: dict[_Shown, Identity] = {}
        self._recalled: dict[tuple[object, ...], tuple[Identity, float]] = {}

    def identify(
        self,
        auth_context: Mapping[str, Sequence[bytes]],
        metadata: Mapping[str, str | bytes],
    ) -> Identity:
        """Return who calls.

        Args:
            auth_context: what gRPC says of the connection.
            metadata: what the caller sent.

        Raises:
            Unauthenticated: the caller did not show who it is. Becomes UNAUTHENTICATED.
            TlsTooOld: the connection uses too old a version. Becomes FAILED_PRECONDITION.
        """
        if self._needs_tls_1_3:
            _require_tls_1_3(auth_context)
        pems = auth_context.get("x509_pem_cert")
        # What the listener does not look at must not make one caller many.
        shown = (
            pems[0] if pems else None,
            metadata.get(headers.AUTHORIZATION) if self._tokens is not None else None,
            metadata.get(headers.API_KEY) if self._api_keys is not None else None,
        )
        identity = self._cache.get(shown)
        if identity is not None and self._clock() < identity.expires_at:
            return identity
        return self._verify(shown)

    def recall(
        self, peer: str, names: Sequence[bytes], metadata: Mapping[str, str | bytes]
    ) -> Identity | None:
        """Return who a caller was found to be a moment ago, without asking for its certificate.

        To have all that gRPC says of a connection takes as long as everything else that is
        done to find out who calls. Only a caller with a SPIFFE ID is recalled: no other
        certificate has it, so that another one that comes from the same address and port
        within `RECALLED_S` is of the same workload (SPIFFE X.509-SVID, section 2).

        Args:
            peer: the address of the connection's other end, with its port.
            names: what its certificate calls it.
            metadata: what it sent.
        """
        found = self._recalled.get(self._shown_by(peer, names, metadata))
        if found is None:
            return None
        identity, until = found
        return identity if self._clock() < until else None

    def remember(
        self,
        peer: str,
        names: Sequence[bytes],
        metadata: Mapping[str, str | bytes],
        identity: Identity,
    ) -> None:
        """Have `recall` return a caller that was identified, if it can be told by its names."""
        # The version of TLS belongs to a connection, not to a name.
        if self._needs_tls_1_3 or not any(name.startswith(_SPIFFE) for name in names):
            return
        while len(self._recalled) >= self._max_cached:
            del self._recalled[next(iter(self._recalled))]
        until = min(identity.expires_at, self._clock() + RECALLED_S)
        self._recalled[self._shown_by(peer, names, metadata)] = (identity, until)

    def forget(self) -> None:
        """Verify every caller again: keys or policy have changed."""
        self._cache.clear()
        self._recalled.clear()

    def _shown_by(
        self, peer: str, names: Sequence[bytes], metadata: Mapping[str, str | bytes]
    ) -> tuple[object, ...]:
        return (
            peer,
            *names,
            metadata.get(headers.AUTHORIZATION) if self._tokens is not None else None,
            metadata.get(headers.API_KEY) if self._api_keys is not None else None,
        )

    def _verify(self, shown: _Shown) -> Identity:
        self._cache.pop(shown, None)
        identity = self._decide(*shown)
        while len(self._cache) >= self._max_cached:
            del self._cache[next(iter(self._cache))]
        self._cache[shown] = identity
        return identity

    def _decide(
        self, pem: bytes | None, authorization: str | bytes | None, api_key: str | bytes | None
    ) -> Identity:
        if authorization is not None and api_key is not None:
            raise Unauthenticated(CredentialProblem.MALFORMED)  # which of two callers is it?
        if authorization is not None and self._tokens is not None:
            token, tokens = _bearer(authorization), self._tokens
            return self._with_certificate(credentials.JWT, pem, lambda: tokens.identify(token, pem))
        if api_key is not None and self._api_keys is not None:
            key, api_keys = _text(api_key), self._api_keys
            return self._with_certificate(credentials.API_KEY, pem, lambda: api_keys.identify(key))
        if pem is not None and credentials.CERTIFICATE in self._accepts and self._certificates:
            return self._certificates.identify(pem)
        if credentials.NONE in self._accepts:
            return Identity(
                credentials.ANONYMOUS, DEFAULT_TENANT, frozenset(), credentials.NONE, math.inf
            )
        raise Unauthenticated(CredentialProblem.MISSING)

    def _with_certificate(
        self, kind: str, pem: bytes | None, identify: Callable[[], Identity]
    ) -> Identity:
        """Decide by a token or a key, and by the certificate beside it if the two belong together.

        Args:
            kind: what it is, as `accepts` calls it alone.
            pem: the certificate, if one was shown.
            identify: verifies it.
        """
        together = f"{credentials.CERTIFICATE}+{kind}"
        if pem is None or together not in self._accepts or self._certificates is None:
            if kind not in self._accepts:
                raise Unauthenticated(CredentialProblem.MISSING)
            return identify()
        found = self._certificates.recognise(pem)
        identity = identify()
        if found.states_tenant and found.identity.tenant != identity.tenant:
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED)
        return replace(
            identity,
            credential=together,
            expires_at=min(identity.expires_at, found.identity.expires_at),
        )


def _check(accepts: frozenset[str], min_tls: str) -> None:
    if not accepts or not accepts <= credentials.CREDENTIALS:
        known = ", ".join(sorted(credentials.CREDENTIALS))
        raise OperatorError(f"a listener accepts one or more of {known}")
    if min_tls not in {"1.2", "1.3"}:
        raise OperatorError('the least version of TLS is "1.2" or "1.3"')


def _needed(verifier: _V | None, accepts: frozenset[str], kind: str) -> _V | None:
    """Return a verifier if any of what is accepted needs it."""
    if not any(kind in each.split("+") for each in accepts):
        return None
    if verifier is None:
        raise OperatorError(f'a listener accepts "{kind}", and nothing is configured to verify it')
    return verifier


def _require_tls_1_3(auth_context: Mapping[str, Sequence[bytes]]) -> None:
    versions = auth_context.get("ssl_tls_version")
    if not versions or versions[0] != _TLS_1_3.encode():
        version = versions[0].decode(errors="replace") if versions else ""
        raise TlsTooOld(version, _TLS_1_3)


def _text(value: str | bytes) -> str:
    if not isinstance(value, str):
        raise Unauthenticated(CredentialProblem.MALFORMED)
    return value


def _bearer(value: str | bytes) -> str:
    text = _text(value)
    if text[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated(CredentialProblem.MALFORMED)
    return text[len(_BEARER) :].strip()
