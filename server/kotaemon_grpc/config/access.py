"""Who may call, and what each may do."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from kotaemon_grpc.config.fields import File, Patterns, Seconds, Section
from kotaemon_grpc.core.model import DEFAULT_TENANT, RESOURCE_ID

_AGENT = ("kotaemon.AgentService/*", "kotaemon.v1.AgentService/*", "kotaemon.v2.AgentService/*")
_ISSUER_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)
_RESERVED_NAMES = {"anonymous", "cn", "dns", "email", "http", "https", "key", "spiffe", "uri"}
_Algorithm: TypeAlias = Literal["RS256", "ES256", "EdDSA"]


def _check_tenant(value: str) -> str:
    if value and not RESOURCE_ID.fullmatch(value):
        raise ValueError("a tenant has lower-case letters, digits, dots, dashes, underscores")
    return value


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


_Plain: TypeAlias = StrictBool | StrictInt | StrictStr
_Tenant = Annotated[str, AfterValidator(_check_tenant)]


class CertificateRule(Section):
    """Names the callers whose certificates' names match."""

    pattern: Annotated[str, AfterValidator(_check_pattern)]
    principal: str = ""
    tenant: str = ""
    roles: tuple[str, ...] = ()


class Issuer(Section):
    """Whose tokens are trusted."""

    name: str
    issuer: Annotated[str, Field(min_length=1)]
    audiences: Patterns
    jwks: Annotated[str, Field(min_length=1)]
    jwks_ca: File = None
    refresh_s: Seconds = 300.0
    algorithms: tuple[_Algorithm, ...] = ("RS256", "ES256", "EdDSA")
    leeway_s: Annotated[StrictFloat, Field(ge=0, le=300, allow_inf_nan=False)] = 30.0
    required_claims: dict[str, _Plain | tuple[_Plain, ...]] = Field(default_factory=dict)
    principal_claim: str = "sub"
    tenant: _Tenant = DEFAULT_TENANT
    tenant_claim: str = ""
    scope_claim: str = "scope"
    roles_by_scope: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _name(self) -> Issuer:
        if not _ISSUER_NAME.fullmatch(self.name) or self.name in _RESERVED_NAMES:
            raise ValueError(
                "the name of an issuer has lower-case letters, digits and dashes, and is none of "
                + ", ".join(sorted(_RESERVED_NAMES))
            )
        return self


class Identity(Section):
    """How callers show who they are."""

    certificates: tuple[CertificateRule, ...] = Field(
        default=(),
        description="what principals and tenants the names of certificates stand for; "
        "without any, each name stands for itself",
    )
    issuers: tuple[Issuer, ...] = Field(
        default=(), description="whose JSON Web Tokens are trusted, and what their claims mean"
    )
    api_keys_file: File = Field(
        default=None, description="the API keys, as kotaemon-grpc keys writes them"
    )
    max_cached: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = Field(
        default=10_000, description="verified credentials that are remembered"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Identity:
        names = [issuer.name for issuer in self.issuers]
        if len(set(names)) < len(names):
            raise ValueError("two issuers have the same name")
        if len({issuer.issuer for issuer in self.issuers}) < len(self.issuers):
            raise ValueError("two issuers have the same claim iss")
        return self


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
