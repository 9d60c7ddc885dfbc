"""What the caller may do: the guard that asks the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.auth.policy import Policy
    from kotaemon_grpc.pipeline.call import Call, Method


class Authorization:
    """The guard; it stands behind `Identification`."""

    def __init__(self, policy: Policy) -> None:
        """Take the policy."""
        self._policy = policy

    def admission(self, method: Method) -> Callable[[Call], None]:
        """Make what lets in callers with a role that fits; raises `PermissionDenied`."""
        path = method.path
        decide = self._policy.for_method(path).caller

        def admit(call: Call) -> None:
            identity = call.identity
            if identity is None:
                raise RuntimeError("the caller was not identified")
            call.caller = identity.callers.get(path) or decide(identity)

        return admit
