"""Who calls, by whatever a listener accepts. Runs for every call: verified callers are kept."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from kotaemon_grpc.auth import identity as credentials
from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.auth.reload import nobody
from kotaemon_grpc.core.errors import (
    CredentialProblem,
    OperatorError,
    TlsTooOld,
    Unauthenticated,
)
from kotaemon_grpc.core.model import DEFAULT_TENANT
from kotaemon_grpc.wire.headers import API_KEY, AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
    from kotaemon_grpc.auth.certificate import CertificateVerifier
    from kotaemon_grpc.auth.jwt import TokenVerifier

RECALLED_S = 10.0
"""How long a connection's certificate is not looked at again."""

_TLS_1_3 = b"TLSv1.3"
_SPIFFE = b"spiffe://"
_SETTINGS = {credentials.JWT: "identity.issuers", credentials.API_KEY: "identity.api_keys_file"}
_BEARER = "bearer "  # RFC 6750, section 2.1; of any case: RFC 9110, section 11.1
_NOTHING_SENT = (None, None)

_K = TypeVar("_K")
_V = TypeVar("_V")
_AuthContext: TypeAlias = "Mapping[str, Sequence[bytes]]"
_Metadata: TypeAlias = "Mapping[str, str | bytes]"
_Sent: TypeAlias = "tuple[str | bytes | None, str | bytes | None]"
_Shown: TypeAlias = "tuple[bytes | None, _Sent]"
Trusts: TypeAlias = "Callable[[bytes, bytes], bool]"
"""Tells of a certificate whether a CA that is trusted now has issued it, given it and what
the caller showed beside it, both PEM."""


def anybody(_leaf: bytes, _others: bytes) -> bool:
    """Leave it to TLS whom to trust."""
    return True


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
        trusts: asked of certificates that are not remembered: a connection outlives the
            trust in the CA that let it be opened.
        on_verified: told, of a caller that was not known and now is, the version of TLS
            and the group of the key exchange as core names them; empty without TLS.
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
        trusts: Trusts = anybody,
        on_verified: Callable[[str, str], object] = nobody,
        clock: Callable[[], float] = time.time,
        max_cached: int = 10_000,
    ) -> None:
        _check(accepts, min_tls)
        self._accepts = accepts
        kinds = credentials.kinds(accepts)
        self._certificates = _needed(certificates, credentials.CERTIFICATE, kinds)
        self._tokens = _needed(tokens, credentials.JWT, kinds)
        self._api_keys = _needed(api_keys, credentials.API_KEY, kinds)
        self._credentials = _credentials_of(kinds)
        self._needs_tls_1_3 = min_tls == "1.3"
        self._trusts = trusts
        self._on_verified = on_verified
        self._clock = clock
        self._max_cached = max_cached
        self._cache: dict[_Shown, Identity] = {}
        self._recalled: dict[tuple[object, ...], tuple[Identity, float]] = {}

    def identify(self, auth_context: _AuthContext, metadata: _Metadata) -> Identity:
        """Return who calls.

        Args:
            auth_context: what gRPC says of the connection.
            metadata: what the caller sent.

        Raises:
            Unauthenticated: the caller did not show who it is. Becomes UNAUTHENTICATED.
            CredentialsSourceUnavailable: a token cannot be verified yet. Becomes UNAVAILABLE.
            TlsTooOld: the connection uses too old a version. Becomes FAILED_PRECONDITION.
        """
        if self._needs_tls_1_3:
            _require_tls_1_3(auth_context)
        pems = auth_context.get("x509_pem_cert")
        shown = (pems[0] if pems else None, self._credentials(metadata))
        identity = self._cache.get(shown)
        if identity is not None and self._clock() < identity.expires_at:
            return identity
        return self._verify(shown, auth_context)

    def recall(self, peer: str, names: Sequence[bytes], metadata: _Metadata) -> Identity | None:
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
        found = self._recalled.get((peer, *names, self._credentials(metadata)))
        if found is None:
            return None
        identity, until = found
        return identity if self._clock() < until else None

    def remember(
        self, peer: str, names: Sequence[bytes], metadata: _Metadata, identity: Identity
    ) -> None:
        """Have `recall` return a caller that was identified, if it can be told by its names."""
        # The version of TLS belongs to a connection, not to a name.
        if self._needs_tls_1_3 or not any(name.startswith(_SPIFFE) for name in names):
            return
        until = min(identity.expires_at, self._clock() + RECALLED_S)
        key = (peer, *names, self._credentials(metadata))
        _keep(self._recalled, key, (identity, until), self._max_cached)

    def forget(self) -> None:
        """Verify every caller again: keys, CAs or policy have changed."""
        self._cache.clear()
        self._recalled.clear()

    def _verify(self, shown: _Shown, auth_context: _AuthContext) -> Identity:
        self._cache.pop(shown, None)  # it has expired, if it is there: a refusal must not keep it
        pem, sent = shown
        if pem is not None and not self._trusts(pem, _chain(auth_context)):
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "CA of the certificate")
        identity = self._decide(pem, *sent)
        _keep(self._cache, shown, identity, self._max_cached)
        self._on_verified(
            _first(auth_context, "ssl_tls_version"),
            _first(auth_context, "ssl_negotiated_key_exchange_group"),
        )
        return identity

    def _decide(
        self, pem: bytes | None, authorization: str | bytes | None, api_key: str | bytes | None
    ) -> Identity:
        if authorization is not None and api_key is not None:
            # Which of two callers is it?
            raise Unauthenticated(CredentialProblem.MALFORMED, "token and API key together")
        if authorization is not None and self._tokens is not None:
            token, tokens = _bearer(authorization), self._tokens
            return self._with_certificate(credentials.JWT, pem, lambda: tokens.identify(token, pem))
        if api_key is not None and self._api_keys is not None:
            key, api_keys = _text(api_key), self._api_keys
            return self._with_certificate(credentials.API_KEY, pem, lambda: api_keys.identify(key))
        certificates = self._certificates if credentials.CERTIFICATE in self._accepts else None
        if pem is not None and certificates is not None:
            return certificates.identify(pem)
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
            raise Unauthenticated(CredentialProblem.NOT_TRUSTED, "tenant of the certificate")
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


def _needed(verifier: _V | None, kind: str, kinds: frozenset[str]) -> _V | None:
    """Return a verifier if what it verifies is of the kinds that are accepted."""
    if kind not in kinds:
        return None
    if verifier is None:
        hint = f'; set "{_SETTINGS[kind]}"' if kind in _SETTINGS else ""
        raise OperatorError(f'a listener accepts "{kind}", and nothing verifies it{hint}')
    return verifier


def _credentials_of(kinds: frozenset[str]) -> Callable[[_Metadata], _Sent]:
    """Make what finds the token and the key that a caller sent. It runs for every call.

    One that the listener does not look at is None: it must not make one caller many.
    """
    if kinds >= {credentials.JWT, credentials.API_KEY}:
        return lambda metadata: (metadata.get(AUTHORIZATION), metadata.get(API_KEY))
    if credentials.JWT in kinds:
        return lambda metadata: (metadata.get(AUTHORIZATION), None)
    if credentials.API_KEY in kinds:
        return lambda metadata: (None, metadata.get(API_KEY))
    return lambda _metadata: _NOTHING_SENT


def _keep(kept: dict[_K, _V], key: _K, value: _V, max_kept: int) -> None:
    """Add what is kept, as the youngest; beyond the bound the oldest goes."""
    kept.pop(key, None)
    while len(kept) >= max_kept:
        del kept[next(iter(kept))]
    kept[key] = value


def _require_tls_1_3(auth_context: _AuthContext) -> None:
    versions = auth_context.get("ssl_tls_version")
    if not versions or versions[0] != _TLS_1_3:
        raise TlsTooOld(_first(auth_context, "ssl_tls_version"), _TLS_1_3.decode())


def _first(auth_context: _AuthContext, key: str) -> str:
    values = auth_context.get(key)
    return values[0].decode(errors="replace") if values else ""


def _chain(auth_context: _AuthContext) -> bytes:
    return b"".join(auth_context.get("x509_pem_cert_chain") or ())


def _text(value: str | bytes) -> str:
    if not isinstance(value, str):
        raise Unauthenticated(CredentialProblem.MALFORMED, "metadata")
    return value


def _bearer(value: str | bytes) -> str:
    text = _text(value)
    token = text[len(_BEARER) :]
    # In one spelling only: each would be remembered as a caller of its own.
    if text[: len(_BEARER)].lower() != _BEARER or token != token.strip():
        raise Unauthenticated(CredentialProblem.MALFORMED, "authorization")
    return token
