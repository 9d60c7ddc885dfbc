"""What a caller may do: whatever no role of its allows is denied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.errors import PermissionDenied
from kotaemon_grpc.core.patterns import matches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from kotaemon_grpc.auth.identity import Identity


@dataclass(frozen=True, slots=True)
class Role:
    """A set of permissions. In all patterns `*` stands for any characters.

    Args:
        methods: patterns of full method names, as `kotaemon.v2.AgentService/*`.
        collections: patterns of the collections that these methods may use.
        audited: whether what its members write goes to the audit log.
    """

    methods: tuple[str, ...]
    collections: tuple[str, ...] = ("*",)
    audited: bool = False

    def allows(self, method: str) -> bool:
        """Tell whether a pattern matches a full method name."""
        return any(matches(method, pattern) for pattern in self.methods)


@dataclass(frozen=True, slots=True)
class Binding:
    """Gives roles to callers.

    Args:
        principals: patterns of names.
        roles: the names of the roles.
        tenants: patterns of the tenants that the callers must belong to.
    """

    principals: tuple[str, ...]
    roles: tuple[str, ...]
    tenants: tuple[str, ...] = ("*",)

    def holds_for(self, identity: Identity) -> bool:
        """Tell whether a caller is meant."""
        return any(matches(identity.principal, each) for each in self.principals) and any(
            matches(identity.tenant, each) for each in self.tenants
        )


class Policy:
    """All roles, and who has them."""

    def __init__(self, roles: Mapping[str, Role], bindings: Sequence[Binding]) -> None:
        """Take the roles by name. A role that is bound and not there allows nothing."""
        self._roles = dict(roles)
        self._bindings = tuple(bindings)

    def for_method(self, method: str) -> MethodPolicy:
        """Resolve a method by its full name, once, when it is registered."""
        allowing = {name: role for name, role in self._roles.items() if role.allows(method)}
        return MethodPolicy(method, allowing, self._bindings)

    def is_audited(self, identity: Identity) -> bool:
        """Tell whether what a caller writes goes to the audit log."""
        return any(
            role.audited
            for name in _role_names(identity, self._bindings)
            if (role := self._roles.get(name))
        )

    def faults(self, methods: Collection[str]) -> Iterator[str]:
        """Find what cannot be meant: patterns without a method, bindings without a role.

        Args:
            methods: the full names of all methods that can be served.
        """
        for name, role in self._roles.items():
            for pattern in role.methods:
                if not any(matches(method, pattern) for method in methods):
                    yield f'role "{name}": no method matches "{pattern}"'
        for binding in self._bindings:
            for name in binding.roles:
                if name not in self._roles:
                    yield f'a binding names the role "{name}", which is not defined'


class MethodPolicy:
    """Who may call one method, and with which collections."""

    def __init__(
        self, method: str, allowing: Mapping[str, Role], bindings: Sequence[Binding]
    ) -> None:
        """Take the roles that allow the method; `Policy.for_method` does."""
        self._method = method
        self._allowing = allowing
        self._bindings = bindings

    def caller(self, identity: Identity) -> Caller:
        """Return the caller with what it may see in a call of this method.

        It is kept in `identity.callers`.

        Raises:
            PermissionDenied: no role of the caller allows the method.
        """
        kept = identity.callers.get(self._method)
        if kept is not None:
            return kept
        granted = _role_names(identity, self._bindings) & self._allowing.keys()
        if not granted:
            raise PermissionDenied(self._method)
        collections = dict.fromkeys(
            pattern for name in sorted(granted) for pattern in self._allowing[name].collections
        )
        caller = Caller(identity.principal, identity.tenant, tuple(collections))
        # Kept with the identity, which is itself forgotten when it or the policy changes.
        identity.callers[self._method] = caller
        return caller


def _role_names(identity: Identity, bindings: Sequence[Binding]) -> set[str]:
    bound = (binding.roles for binding in bindings if binding.holds_for(identity))
    return set(identity.roles).union(*bound)
