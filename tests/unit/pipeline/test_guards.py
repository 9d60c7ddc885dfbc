"""What a call has to pass, and in which order: the guards as a listener has them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from structlog.testing import CapturingLogger

from kotaemon_grpc.app.access import Access
from kotaemon_grpc.app.front import plans
from kotaemon_grpc.app.seams import Seams
from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.auth.policy import Policy, Role
from kotaemon_grpc.config import Config
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.errors import CredentialProblem, TlsTooOld, Unauthenticated
from kotaemon_grpc.pipeline.identity import Identification
from kotaemon_grpc.pipeline.policy import Authorization
from kotaemon_grpc.pipeline.running import Running
from kotaemon_grpc.telemetry.metrics import Metrics
from kotaemon_grpc.telemetry.tracing import Tracing

REFUSED = [
    Unauthenticated(CredentialProblem.EXPIRED),
    TlsTooOld("TLSv1.2", "TLSv1.3"),
]
KINDS = ["unary", "client_stream", "server_stream", "bidi_stream"]
READER = Role(("kotaemon.v2.*",), ("public-*",))


class Door:
    """Knows one caller, or nobody."""

    def __init__(self, *roles: str, error: Exception | None = None) -> None:
        self.identity = Identity("key:a", "acme", frozenset(roles), "api_key", math.inf)
        self.asked: list[dict[str, Any]] = []
        self._error = error

    def recall(self, *_: Any) -> None:
        return None

    def remember(self, *_: Any) -> None:
        pass

    def identify(self, _auth_context: Any, metadata: Any) -> Identity:
        self.asked.append(dict(metadata))
        if self._error is not None:
            raise self._error
        return self.identity


class Lines:
    """Takes lines that nobody reads."""

    def writes(self, _level: str) -> bool:
        return False

    def write(self, *_: Any) -> None:
        pass

    later = write


class Logger:
    def __call__(self, _name: str, **_: bool) -> Any:
        return structlog.wrap_logger(CapturingLogger())

    def lines(self, _name: str) -> Lines:
        return Lines()


class Watched(Policy):
    """Tells whether it was asked for a caller."""

    asked = 0

    def for_method(self, method: str) -> Any:
        decide = super().for_method(method).caller

        def caller(identity: Identity) -> Caller:
            self.asked += 1
            return decide(identity)

        return SimpleNamespace(caller=caller)


@pytest.mark.parametrize(
    ("remaining_s", "error", "role", "calls", "code"),
    [
        (0.0, REFUSED[0], "nobody", 2, "DEADLINE_EXCEEDED"),
        (None, REFUSED[0], "nobody", 2, "UNAUTHENTICATED"),
        (None, REFUSED[1], "nobody", 2, "FAILED_PRECONDITION"),
        (None, None, "nobody", 2, "PERMISSION_DENIED"),
        (None, None, "reader", 2, "RESOURCE_EXHAUSTED"),
        (None, None, "reader", 1, "OK"),
    ],
)
async def test_a_listener_asks_for_time_then_identity_then_permission_then_rate(  # noqa: PLR0917 - a table
    remaining_s: float | None,
    error: Exception | None,
    role: str,
    calls: int,
    code: str,
    offline: Any,
    beginning: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    door, policy = Door(role, error=error), Watched({"reader": READER}, ())
    limits = {"calls_per_second": 0.001}
    seams = Seams(
        Config.model_validate({"limits": limits}),
        policy,
        SimpleNamespace(authenticator=lambda *_: door),
        running=Running(),
        metrics=Metrics(CollectorRegistry()),
        tracing=Tracing(None),
        logger=Logger(),
    )
    served = []

    async def handler(_request: Any, call: Any) -> bytes:
        served.append(call.caller)
        return b""

    seam = seams.seam_for(SimpleNamespace(credentials=(), min_tls="1.2"))
    serve = seam.unary(beginning().method, handler)
    for _ in range(calls - 1):  # takes the one place that a rate leaves
        try:
            await serve(b"", offline(remaining_s))
        except ConnectionAbortedError:
            served.append(None)
    served.clear()
    door.asked.clear()
    policy.asked = 0
    door.identity.callers.clear()  # else what it was told is not asked for again
    if code == "OK":
        await serve(b"", offline(remaining_s))
        assert served == [Caller("key:a", "acme", ("public-*",))]
    else:
        with pytest.raises(ConnectionAbortedError, match=f"^{code}$"):
            await serve(b"", offline(remaining_s))
        assert served == []
    assert caplog.records == []  # no observer failed
    assert len(door.asked) == (code != "DEADLINE_EXCEEDED")
    assert policy.asked == (code in {"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "OK"})


@pytest.mark.parametrize("error", REFUSED)
@pytest.mark.parametrize("shape", KINDS)
async def test_who_is_not_known_comes_no_further(
    shape: str, error: Exception, serving: Any
) -> None:
    policy = Watched({"reader": READER}, ())
    door = Door("reader", error=error)
    guards = [Identification(door), Authorization(policy)]
    async with serving(guards=guards) as served:
        outcome = await served.run(shape, silent=True, metadata=(("authorization", "Bearer x"),))
        call, _ = await served.recorder.end()
        assert served.handlers.contexts == []
    assert outcome.code in {"UNAUTHENTICATED", "FAILED_PRECONDITION"}
    assert outcome.failure.error.details() == str(error)
    assert (policy.asked, call.received) == (0, 0)
    assert (call.principal, call.tenant, call.credential) == ("", "", "")
    assert door.asked[0]["authorization"] == "Bearer x"


@pytest.mark.parametrize("shape", KINDS)
async def test_who_has_no_role_comes_no_further(shape: str, serving: Any) -> None:
    guards = [Identification(Door("nobody")), Authorization(Policy({}, ()))]
    async with serving(guards=guards) as served:
        outcome = await served.run(shape, silent=True)
        call, _ = await served.recorder.end()
        assert served.handlers.contexts == []
    assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "METHOD_NOT_ALLOWED")
    assert outcome.failure.detail("ErrorInfo").metadata == {"method": call.method.path}
    assert (call.principal, call.tenant, call.credential) == ("key:a", "acme", "api_key")


@pytest.mark.parametrize("shape", KINDS)
async def test_who_has_a_role_may_use_its_collections(shape: str, serving: Any) -> None:
    async def deed(context: Any) -> None:
        context.caller.scope("private")

    policy = Policy({"reader": READER}, ())
    guards = [Identification(Door("reader")), Authorization(policy)]
    async with serving(deed, guards=guards) as served:
        outcome = await served.run(shape)
        await served.recorder.end()
    assert (outcome.code, outcome.reason) == ("PERMISSION_DENIED", "COLLECTION_NOT_ALLOWED")
    assert outcome.failure.detail("ResourceInfo").resource_name == "collections/private"
    (context,) = served.handlers.contexts
    assert context.caller == Caller("key:a", "acme", ("public-*",))


async def test_nobody_is_let_in_without_an_identity(serving: Any) -> None:
    async with serving(guards=[Authorization(Policy({"reader": READER}, ()))]) as served:
        outcome = await served.run("unary")
        await served.recorder.end()
        assert served.handlers.contexts == []
    assert (outcome.code, outcome.failure.error.details()) == ("INTERNAL", "internal error")


async def test_a_caller_that_is_denied_each_time_is_counted_once(
    offline: Any, beginning: Any
) -> None:
    metrics = Metrics(CollectorRegistry())
    config = Config.model_validate({"server": {"insecure": True}})
    seams = Seams(
        config,
        Policy({}, ()),
        Access(config, lambda *_: None),
        running=Running(),
        metrics=metrics,
        tracing=Tracing(None),
        logger=Logger(),
    )

    async def handler(_request: Any, _call: Any) -> bytes:
        raise AssertionError

    seam = seams.seam_for(next(plans(config)))
    serve = seam.unary(beginning().method, handler)
    for _ in range(3):
        with pytest.raises(ConnectionAbortedError, match="PERMISSION_DENIED"):
            await serve(b"", offline())
    counted = metrics.registry.get_sample_value(
        "kotaemon_grpc_credentials_verified_total", {"tls_version": "none", "group": "none"}
    )
    assert counted == 1
