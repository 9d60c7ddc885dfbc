"""A client whose waits take no time, and handlers that follow a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.client import AgentClient, RetryPolicy
from kotaemon_grpc.client.attempts import Attempts
from kotaemon_grpc.client.calls import Calls
from kotaemon_grpc.client.hooks import AllHooks
from kotaemon_grpc.client.retry import Retries

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.client.testing import FakeTransport


class Time:
    """A clock that only waits move, and the luck of the draw."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.waits_s: list[float] = []
        self.drawn = 0.5

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.waits_s.append(float(seconds))
        self.now_s += seconds


@pytest.fixture
def time() -> Time:
    return Time()


class TimedClient(AgentClient):
    """An `AgentClient` with another clock."""

    def __init__(self, transport: FakeTransport, time: Time, **options: Any) -> None:
        hooks = AllHooks(options.get("hooks", ()))
        self._transport = transport
        self._calls = Calls(
            transport,
            attempts=Attempts(options.get("credentials"), hooks, time),
            retries=Retries(
                options.get("retry", RetryPolicy()),
                clock=time,
                sleep=time.sleep,
                draw=lambda: time.drawn,
            ),
            hooks=hooks,
            timeout_s=options.get("timeout_s", 60.0),
            clock=time,
        )


@pytest.fixture
def client_of(time: Time) -> Callable[..., AgentClient]:
    """Make a client of a transport; the options are those of `AgentClient`."""
    return lambda transport, **options: TimedClient(transport, time, **options)


@pytest.fixture
def script() -> Callable[..., Callable[[Any], Any]]:
    """Make a handler of its outcomes in turn, of which the last is repeated."""

    def of(*outcomes: Any) -> Callable[[Any], Any]:
        left = list(outcomes)

        def handle(request: Any) -> Any:
            handle.requests.append(request)
            outcome = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome(request) if callable(outcome) else outcome

        handle.requests = []
        return handle

    return of
