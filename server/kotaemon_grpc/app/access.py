"""From the settings to who may call: policy, and an authenticator for each listener."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from kotaemon_grpc.app.catalog import methods
from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
from kotaemon_grpc.auth.authenticator import Authenticator, anybody
from kotaemon_grpc.auth.certificate import CertificateRule, CertificateVerifier
from kotaemon_grpc.auth.identity import ANONYMOUS, NONE
from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.jwt import Issuer, TokenVerifier
from kotaemon_grpc.auth.policy import Binding, Policy, Role
from kotaemon_grpc.auth.reload import nobody
from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.transport.pki import DEVELOPER_SPIFFE_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kotaemon_grpc.auth.authenticator import Trusts
    from kotaemon_grpc.config import Config
    from kotaemon_grpc.config.access import CertificateRule as RuleSettings
    from kotaemon_grpc.config.access import Issuer as IssuerSettings

NO_CREDENTIALS = (NONE,)
"""What a plaintext listener takes: everybody is `ANONYMOUS`."""

_ADMIN = "admin"


def policy_of(config: Config) -> Policy:
    """Make the policy.

    The developer's certificate of the development PKI makes its holder an
    administrator, and so does plaintext, which only this machine can reach.

    Raises:
        OperatorError: a rule names no method that exists, or no role.
    """
    roles = {
        name: Role(role.methods, role.collections, audited=role.audited)
        for name, role in config.policy.all_roles.items()
    }
    bindings = [
        Binding(each.principals, each.roles, each.tenants) for each in config.policy.bindings
    ]
    # Every installation makes that name: it means something with our own CA alone.
    if config.tls.is_development and not any(each.client_ca for each in config.server.listeners):
        bindings.append(Binding((DEVELOPER_SPIFFE_ID,), (_ADMIN,)))
    if config.server.insecure:
        bindings.append(Binding((ANONYMOUS,), (_ADMIN,)))
    policy = Policy(roles, bindings)
    faults = [f"[policy] is not valid: {fault}" for fault in policy.faults(methods())]
    faults += [
        f'{setting}: there is no role "{role}"'
        for setting, role in _roles_of_credentials(config)
        if role not in roles
    ]
    if faults:
        raise OperatorError("\n".join(faults))
    return policy


def _roles_of_credentials(config: Config) -> Iterator[tuple[str, str]]:
    """Find the roles that credentials themselves give, with the setting that says so."""
    for number, rule in enumerate(config.identity.certificates):
        for role in rule.roles:
            yield _setting_of_rule(number), role
    for issuer in config.identity.issuers:
        for role in sorted(set().union(*issuer.roles_by_scope.values())):
            yield _setting_of_issuer(issuer.name), role


class Access:
    """The verifiers that all listeners share, and what keeps them up to date."""

    def __init__(
        self,
        config: Config,
        on_reload: Callable[[str, str, str], object],
        on_change: Callable[[str, str], object] = nobody,
    ) -> None:
        """Take the settings.

        Args:
            config: the settings.
            on_reload: told of each attempt to read what they name: the kind, one of
                `names.RELOAD_…`, the name, and the problem or an empty string.
            on_change: told the kind and the name of what has changed.

        Raises:
            OperatorError: a rule or an issuer cannot be meant.
        """
        identity = config.identity
        self._on_reload = on_reload
        self._on_change = on_change
        self._max_cached = identity.max_cached
        self._authenticators: list[Authenticator] = []
        self._certificates = CertificateVerifier(certificate_rules(config))
        self._sources: dict[str, KeySet | ApiKeyVerifier] = {}
        self._api_keys: ApiKeyVerifier | None = None
        if identity.api_keys_file is not None:
            self._api_keys = ApiKeyVerifier(
                identity.api_keys_file,
                on_reload=partial(self._reloaded, names.RELOAD_API_KEYS, "identity.api_keys_file"),
                on_change=partial(self._changed, names.RELOAD_API_KEYS, "identity.api_keys_file"),
            )
            self._sources["identity.api_keys_file"] = self._api_keys
        # After that file, which the start waits for: many silent issuers hold all threads.
        issuers = [self._issuer(each) for each in identity.issuers]
        self._tokens = TokenVerifier(issuers) if issuers else None

    @property
    def sources(self) -> Sequence[KeySet | ApiKeyVerifier]:
        """What is read again while the server runs."""
        return tuple(self._sources.values())

    async def load(self) -> None:
        """Read what tokens and keys are verified with, all at once.

        Raises:
            OperatorError: a file cannot be used.
        """
        loads = [_load(setting, source) for setting, source in self._sources.items()]
        for problem in await asyncio.gather(*loads, return_exceptions=True):
            if problem is not None:
                raise problem

    async def keep_up_to_date(self) -> None:
        """Read it again, for ever, when it changes."""
        async with asyncio.TaskGroup() as running:
            for source in self.sources:
                running.create_task(source.refresh_forever())

    def authenticator(
        self,
        credentials: Sequence[str],
        min_tls: str,
        on_verified: Callable[[str, str], object] = nobody,
        trusts: Trusts = anybody,
    ) -> Authenticator:
        """Make what finds out who calls, for a listener that takes these credentials.

        Args:
            credentials: what it takes.
            min_tls: the least version of TLS, "1.2" or "1.3".
            on_verified: told, of each caller that was not known and now is, the version
                of TLS and the group of the key exchange.
            trusts: tells of a client's certificate whether its CA is trusted now.

        Raises:
            OperatorError: what verifies them is not set.
        """
        authenticator = Authenticator(
            accepts=frozenset(credentials),
            certificates=self._certificates,
            tokens=self._tokens,
            api_keys=self._api_keys,
            min_tls=min_tls,
            trusts=trusts,
            on_verified=on_verified,
            max_cached=self._max_cached,
        )
        self._authenticators.append(authenticator)
        return authenticator

    def _issuer(self, issuer: IssuerSettings) -> Issuer:
        setting = _setting_of_issuer(issuer.name)
        with _naming(setting):
            keys = self._sources[setting] = KeySet(
                issuer.jwks,
                ca=issuer.jwks_ca,
                refresh_s=issuer.refresh_s,
                on_reload=partial(self._reloaded, names.RELOAD_JWKS, setting),
                on_change=partial(self._changed, names.RELOAD_JWKS, setting),
            )
            return _issuer(issuer, keys)

    def _reloaded(self, kind: str, name: str, succeeded: bool) -> None:  # noqa: FBT001 - a callback
        self._on_reload(kind, name, "" if succeeded else self._sources[name].problem)

    def _changed(self, kind: str, name: str) -> None:
        self.forget()
        self._on_change(kind, name)

    def apply(self, rules: Sequence[CertificateRule]) -> None:
        """Name the holders of certificates by other rules, and verify every caller again."""
        self._certificates.use(rules)
        self.forget()

    def forget(self) -> None:
        """Verify every caller again: keys, CAs, rules or the policy have changed."""
        for authenticator in self._authenticators:
            authenticator.forget()


async def _load(setting: str, source: KeySet | ApiKeyVerifier) -> None:
    with _naming(setting):
        await source.load()


def _setting_of_issuer(name: str) -> str:
    return f"identity.issuers, {name}"


def _setting_of_rule(number: int) -> str:
    return f"identity.certificates, {number}"


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Put the name of a setting in front of what is wrong with it."""
    try:
        yield
    except OperatorError as error:
        raise OperatorError(f"{setting}: {error}") from None


def certificate_rules(config: Config) -> list[CertificateRule]:
    """Make the rules for the names of certificates.

    Raises:
        OperatorError: one cannot be meant.
    """
    return [_certificate_rule(*each) for each in enumerate(config.identity.certificates)]


def _certificate_rule(number: int, rule: RuleSettings) -> CertificateRule:
    with _naming(_setting_of_rule(number)):
        return CertificateRule(rule.pattern, rule.principal, rule.tenant, rule.roles)


def _issuer(issuer: IssuerSettings, keys: KeySet) -> Issuer:
    return Issuer(
        name=issuer.name,
        issuer=issuer.issuer,
        audiences=issuer.audiences,
        keys=keys,
        algorithms=frozenset(issuer.algorithms),
        leeway_s=issuer.leeway_s,
        required_claims=issuer.required_claims,
        principal_claim=issuer.principal_claim,
        tenant=issuer.tenant,
        tenant_claim=issuer.tenant_claim,
        scope_claim=issuer.scope_claim,
        roles_by_scope=issuer.roles_by_scope,
    )
