"""Who may call, and what each may do."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from kotaemon_grpc.auth.naming import (
    ALGORITHMS,
    Algorithm,
    check_algorithms,
    check_issuer_name,
    check_issuers,
    check_tenant,
    compiled,
)
from kotaemon_grpc.config.fields import File, Patterns, Seconds, Section, checked_by
from kotaemon_grpc.core.model import DEFAULT_TENANT

_AGENT = ("kotaemon.AgentService/*", "kotaemon.v1.AgentService/*", "kotaemon.v2.AgentService/*")

_Plain: TypeAlias = StrictBool | StrictInt | StrictStr


class CertificateRule(Section):
    """Names the callers whose certificates' names match."""

    pattern: Annotated[str, checked_by(compiled)]
    principal: str = ""
    tenant: str = ""
    roles: tuple[str, ...] = ()


class Issuer(Section):
    """Whose tokens are trusted."""

    name: Annotated[str, checked_by(check_issuer_name)]
    issuer: Annotated[str, Field(min_length=1)]
    audiences: Patterns
    jwks: Annotated[str, Field(min_length=1)]
    jwks_ca: File = None
    refresh_s: Annotated[Seconds, Field(ge=1)] = 300.0
    algorithms: Annotated[tuple[Algorithm, ...], checked_by(check_algorithms)] = ALGORITHMS
    leeway_s: Annotated[StrictFloat, Field(ge=0, le=300, allow_inf_nan=False)] = 30.0
    required_claims: dict[str, _Plain | tuple[_Plain, ...]] = Field(default_factory=dict)
    principal_claim: str = "sub"
    tenant: Annotated[str, checked_by(check_tenant)] = DEFAULT_TENANT
    tenant_claim: str = ""
    scope_claim: str = "scope"
    roles_by_scope: dict[str, tuple[str, ...]] = Field(default_factory=dict)


class Identity(Section):
    """How callers show who they are."""

    certificates: tuple[CertificateRule, ...] = Field(
        default=(),
        description="what principals and tenants the names of certificates stand for; "
        "without any, each name stands for itself",
    )
    issuers: Annotated[tuple[Issuer, ...], checked_by(check_issuers)] = Field(
        default=(), description="whose JSON Web Tokens are trusted, and what their claims mean"
    )
    api_keys_file: File = Field(
        default=None, description="the API keys, as kotaemon-grpc keys writes them"
    )
    max_cached: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=10_000, description="verified credentials that are remembered"
    )


class Role(Section):
    """What those who have it may call, with which collections."""

    methods: Patterns
    collections: Patterns = ("*",)
    audited: StrictBool = False


class Binding(Section):
    """Gives roles to principals."""

    principals: Patterns
    roles: Patterns
    tenants: Patterns = ("*",)


BUILT_IN_ROLES = {
    "user": Role(
        methods=(
            *_AGENT,
            "kotaemon.v2.ConversationService/*",
            "kotaemon.v2.RetrievalService/*",
            "kotaemon.v2.DocumentService/GetDocument",
            "kotaemon.v2.DocumentService/ListDocuments",
        )
    ),
    "editor": Role(
        methods=(
            *_AGENT,
            "kotaemon.v2.ConversationService/*",
            "kotaemon.v2.RetrievalService/*",
            "kotaemon.v2.DocumentService/*",
        )
    ),
    "admin": Role(methods=("*",), audited=True),
}


class Policy(Section):
    """What callers may do. Whatever no role of a caller allows is denied."""

    roles: dict[str, Role] = Field(
        default_factory=dict,
        description="further roles; user, editor and admin are there unless they are redefined",
    )
    bindings: tuple[Binding, ...] = Field(
        default=(), description="who has which roles, beside what credentials themselves give"
    )

    @property
    def all_roles(self) -> dict[str, Role]:
        """The roles that are there."""
        return {**BUILT_IN_ROLES, **self.roles}
