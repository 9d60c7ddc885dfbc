"""What a caller may do."""

from __future__ import annotations

import math

import pytest

from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.auth.policy import Binding, Policy, Role
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.errors import PermissionDenied
from kotaemon_grpc.core.model import Scope
from kotaemon_grpc.core.patterns import matches

ASK = "kotaemon.v2.AgentService/AskQuestion"
DELETE = "kotaemon.v2.DocumentService/DeleteDocument"
METHODS = {ASK, DELETE, "grpc.channelz.v1.Channelz/GetServers"}


def identity(*roles: str, principal: str = "spiffe://acme/app", tenant: str = "acme") -> Identity:
    return Identity(principal, tenant, frozenset(roles), "certificate", math.inf)


def may(policy: Policy, method: str, who: Identity) -> bool:
    try:
        policy.for_method(method).caller(who)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("roles", "bindings"),
    [
        ({}, ()),
        ({"reader": Role(("*",))}, ()),
        ({"reader": Role(("*",))}, (Binding(("*",), ("writer",)),)),
        ({"reader": Role(())}, (Binding(("*",), ("reader",)),)),
        ({"reader": Role(("*",))}, (Binding((), ("reader",)),)),
        ({"reader": Role(("*",))}, (Binding(("*",), ("reader",), ()),)),
        ({"reader": Role(("*",))}, (Binding(("*",), ()),)),
    ],
)
def test_what_no_role_allows_is_denied(
    roles: dict[str, Role], bindings: tuple[Binding, ...]
) -> None:
    decide = Policy(roles, bindings).for_method(ASK)
    who = identity("writer")
    for _ in range(2):  # it is not remembered as anything else
        with pytest.raises(PermissionDenied) as raised:
            decide.caller(who)
        assert raised.value.action == ASK
    assert who.callers == {}


@pytest.mark.parametrize(
    ("pattern", "method", "allowed"),
    [
        (ASK, ASK, True),
        (ASK, DELETE, False),
        ("*", DELETE, True),
        ("kotaemon.v2.*", ASK, True),
        ("kotaemon.v2.AgentService/*", ASK, True),
        ("kotaemon.v2.AgentService/*", DELETE, False),
        ("kotaemon.*/Delete*", DELETE, True),
        ("kotaemon.*/Delete*", ASK, False),
        ("kotaemon.v2.AgentService", ASK, False),
        ("AskQuestion", ASK, False),
        (ASK.lower(), ASK, False),
        (f"/{ASK}", ASK, False),
        ("kotaemonxv2.AgentService/AskQuestion", ASK, False),
        ("kotaemon.v2.AgentService/AskQuestion?", ASK, False),
        ("", ASK, False),
    ],
)
def test_a_role_allows_the_methods_of_its_patterns(
    pattern: str,
    method: str,
    allowed: bool,  # noqa: FBT001 - a table
) -> None:
    assert may(Policy({"r": Role((pattern,))}, ()), method, identity("r")) is allowed
    assert may(Policy({"r": Role(("x", pattern))}, ()), method, identity("r")) is allowed


@pytest.mark.parametrize(
    ("principals", "tenants", "allowed"),
    [
        (("spiffe://acme/app",), ("*",), True),
        (("spiffe://acme/*",), ("acme",), True),
        (("spiffe://acme/*",), ("a*",), True),
        (("spiffe://other/*", "spiffe://acme/*"), ("other", "acme"), True),
        (("spiffe://acme/*",), ("other",), False),
        (("spiffe://other/*",), ("acme",), False),
        (("spiffe://acme/ap",), ("*",), False),
        (("SPIFFE://acme/app",), ("*",), False),
        (("acme/app",), ("*",), False),
    ],
)
def test_a_binding_gives_roles_to_principals_of_tenants(
    principals: tuple[str, ...],
    tenants: tuple[str, ...],
    allowed: bool,  # noqa: FBT001 - a table
) -> None:
    policy = Policy({"r": Role(("*",))}, (Binding(principals, ("r",), tenants),))
    assert may(policy, ASK, identity()) is allowed


def test_roles_of_a_credential_and_of_bindings_add_up() -> None:
    policy = Policy(
        {
            "asker": Role((ASK,), ("b", "a")),
            "reader": Role((ASK,), ("c", "b")),
            "deleter": Role((DELETE,), ("d",)),
        },
        (
            Binding(("*",), ("reader", "undefined")),
            Binding(("*",), ("deleter",)),
            Binding(("nobody",), ("asker",)),
        ),
    )
    who = identity("asker")
    caller = policy.for_method(ASK).caller(who)
    assert caller == Caller("spiffe://acme/app", "acme", ("b", "a", "c"))
    assert policy.for_method(DELETE).caller(who).collections == ("d",)
    assert policy.for_method(ASK).caller(identity()).collections == ("c", "b")


def test_a_decision_is_kept_with_the_identity_by_method() -> None:
    policy = Policy({"r": Role((ASK,), ("a",)), "s": Role((DELETE,), ("b",))}, ())
    who = identity("r", "s")
    asking, deleting = policy.for_method(ASK), policy.for_method(DELETE)
    assert asking.caller(who) is asking.caller(who)
    assert asking.caller(who) is not asking.caller(identity("r"))
    assert (asking.caller(who).collections, deleting.caller(who).collections) == (("a",), ("b",))


@pytest.mark.parametrize(
    ("who", "audited"),
    [
        (identity(), False),
        (identity("reader"), False),
        (identity("undefined"), False),
        (identity("admin"), True),
        (identity("reader", "admin"), True),
        (identity(principal="key:root"), True),
        (identity(principal="key:root", tenant="other"), False),
    ],
)
def test_who_is_audited(who: Identity, audited: bool) -> None:  # noqa: FBT001 - a table
    policy = Policy(
        {"admin": Role(("*",), audited=True), "reader": Role(("*",))},
        (Binding(("key:root",), ("undefined", "admin"), ("acme",)),),
    )
    assert policy.is_audited(who) is audited


def test_what_cannot_be_meant_is_found() -> None:
    policy = Policy(
        {
            "good": Role((ASK, "kotaemon.v2.*", "grpc.*")),
            "bad": Role(("*", "kotaemon.v3.*", "AskQuestion")),
            "empty": Role(()),
        },
        (
            Binding(("*",), ("good", "absent")),
            Binding(("nobody",), ("bad",)),
        ),
    )
    assert list(policy.faults(METHODS)) == [
        'role "bad": no method matches "kotaemon.v3.*"',
        'role "bad": no method matches "AskQuestion"',
        'a binding names the role "absent", which is not defined',
    ]


def test_a_policy_without_faults_has_none() -> None:
    policy = Policy({"good": Role(("kotaemon.*",))}, (Binding(("*",), ("good",)),))
    assert list(policy.faults(METHODS)) == []
    assert list(policy.faults(())) != []


@pytest.mark.parametrize(
    ("patterns", "collection", "seen"),
    [
        (("*",), "default", True),
        (("default",), "default", True),
        (("public-*",), "public-1", True),
        (("x", "public-*"), "public-1", True),
        (("public-*",), "public", False),
        (("public-*",), "private-1", False),
        (("Default",), "default", False),
        ((), "default", False),
        (("",), "default", False),
    ],
)
def test_a_caller_has_a_scope_in_the_collections_that_it_may_see(
    patterns: tuple[str, ...],
    collection: str,
    seen: bool,  # noqa: FBT001 - a table
) -> None:
    policy = Policy({"r": Role((ASK,), patterns)}, ())
    caller = policy.for_method(ASK).caller(identity("r"))
    assert caller.may_see(collection) is seen
    if seen:
        assert caller.scope(collection) == Scope("acme", collection)
    else:
        with pytest.raises(PermissionDenied) as raised:
            caller.scope(collection)
        assert raised.value.collection == f"collections/{collection}"


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("uri:https://a?b", "uri:https://a?b", True),
        ("uri:https://axb", "uri:https://a?b", False),
        ("dns:[::1]", "dns:[::1]", True),
        ("dns::", "dns:[::1]", False),
        ("spiffe://a/b\nc", "spiffe://*", True),
        ("Spiffe://a", "spiffe://*", False),
        ("aXbXc", "a*b*c", True),
        ("abcd", "a*b*c", False),
        ("", "*", True),
    ],
)
def test_only_the_star_stands_for_others(name: str, pattern: str, *, fits: bool) -> None:
    assert matches(name, pattern) is fits
