"""Finds what is wrong with settings that the server could not start with, without starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.app.access import Access, policy_of
from kotaemon_grpc.app.front import plans

if TYPE_CHECKING:
    from kotaemon_grpc.config import Config


def check(config: Config) -> None:
    """Put together what depends on the settings alone. No file that they name is read.

    Raises:
        OperatorError: a role, a binding, an issuer, a rule or a listener cannot be meant.
    """
    policy_of(config)
    access = Access(config, lambda _kind, _name, _problem: None)
    for plan in plans(config):
        access.authenticator(plan.credentials, plan.min_tls)
