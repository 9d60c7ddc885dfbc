"""What hooks are told, in which order, and that they do no harm."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import Call, CallError, Hooks, UnavailableError
from kotaemon_grpc.client.hooks import AllHooks
from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DOWN = failure(grpc.StatusCode.UNAVAILABLE)
OK = pb.AskQuestionResponse(answer=pb.Answer(text="so"))


class Noted(Hooks):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: set[Call] = set()
        self.told: list[tuple[Any, ...]] = []

    def on_start(self, call: Call) -> None:
        self.calls.add(call)
        self.told.append(("start",))

    def on_attempt(self, call: Call, attempt: int) -> None:
        self.calls.add(call)
        self.told.append(("attempt", attempt))

    def on_retry(self, call: Call, attempt: int, error: CallError, wait_s: float) -> None:
        self.calls.add(call)
        self.told.append(("retry", attempt, error, wait_s))

    def on_end(self, call: Call, error: BaseException | None, elapsed_s: float) -> None:
        self.calls.add(call)
        self.told.append(("end", error, elapsed_s))

    def headers(self, call: Call) -> tuple[tuple[str, str], ...]:
        self.calls.add(call)
        return (("traceparent", f"00-{len(self.told)}"),)

    def on_reload(self, what: str, problem: str) -> None:
        self.told.append(("reload", what, problem))


class Failing(Hooks):
    """Can do nothing."""

    def _fail(self, *_: object) -> Any:
        raise RuntimeError("a hook")

    on_start = on_attempt = on_retry = on_end = headers = on_reload = _fail


async def test_hooks_are_told_of_a_call_and_all_its_attempts(client_of: Any, script: Any) -> None:
    noted = Noted()
    transport = FakeTransport({"AskQuestion": script(DOWN, OK)})
    await client_of(transport, hooks=(noted,)).ask("why?", request_id="r-1", timeout_s=7.0)
    assert noted.told == [
        ("start",),
        ("attempt", 1),
        ("retry", 1, DOWN, pytest.approx(0.05)),
        ("attempt", 2),
        ("end", None, pytest.approx(0.05)),
    ]
    (call,) = noted.calls
    assert call.method == "/kotaemon.v2.AgentService/AskQuestion"
    assert (call.request_id, call.timeout_s) == ("r-1", 7.0)


async def test_hooks_are_told_how_a_call_failed(client_of: Any, script: Any) -> None:
    noted = Noted()
    with pytest.raises(UnavailableError):
        await client_of(FakeTransport({"AskQuestion": script(DOWN)}), hooks=(noted,)).ask("why?")
    assert noted.told[-1][:2] == ("end", DOWN)


async def test_hooks_are_told_that_a_call_was_given_up(client_of: Any) -> None:
    async def handle(_: object) -> AsyncIterator[Any]:
        yield pb.StreamAnswerResponse(text_delta=pb.TextDelta(text="so"))

    noted = Noted()
    stream = client_of(FakeTransport({"StreamAnswer": handle}), hooks=(noted,)).stream("why?")
    await anext(stream)
    await stream.aclose()
    kind, error, _ = noted.told[-1]
    assert (kind, type(error)) == ("end", GeneratorExit)

    begun = asyncio.Event()

    async def wait(_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    client = client_of(FakeTransport({"AskQuestion": wait}), hooks=(noted,))
    task = asyncio.create_task(client.ask("why?"))
    await begun.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert type(noted.told[-1][1]) is asyncio.CancelledError


async def test_each_attempt_carries_the_headers_of_the_hooks(client_of: Any, script: Any) -> None:
    transport = FakeTransport({"AskQuestion": script(DOWN, OK)})
    await client_of(transport, hooks=(Noted(),)).ask("why?")
    # The number of what was told before: a start and an attempt; a retry and an attempt more.
    assert [call.metadata for call in transport.calls] == [
        (("traceparent", "00-2"),),
        (("traceparent", "00-4"),),
    ]


async def test_a_hook_that_fails_harms_neither_the_call_nor_the_other_hooks(
    client_of: Any, script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    noted = Noted()
    transport = FakeTransport({"AskQuestion": script(DOWN, OK)})
    client = client_of(transport, hooks=(Failing(), noted))
    assert (await client.ask("why?")).text == "so"
    assert [told[0] for told in noted.told] == ["start", "attempt", "retry", "attempt", "end"]
    assert transport.calls[0].metadata
    assert "a hook of the client failed" in caplog.text


@pytest.mark.parametrize(
    "header",
    [("Upper", "x"), ("", "x"), ("grpc-timeout", "x"), ("x-bin", "x"), ("x", "\n"), ("x", "é")],
)
async def test_a_header_that_gRPC_would_not_send_is_left_out(  # noqa: N802 - its name
    client_of: Any, script: Any, header: tuple[str, str]
) -> None:
    class Wrong(Hooks):
        def headers(self, call: Call) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - theirs
            return (header,)

    transport = FakeTransport({"AskQuestion": script(OK)})
    assert (await client_of(transport, hooks=(Wrong(), Noted())).ask("why?")).text == "so"
    assert [name for name, _ in transport.calls[0].metadata] == ["traceparent"]


def test_hooks_are_told_of_reloads_whatever_one_of_them_does() -> None:
    noted = Noted()
    AllHooks((Failing(), noted)).on_reload("tls", "no such file")
    assert noted.told == [("reload", "tls", "no such file")]


def test_hooks_need_not_write_every_method() -> None:
    hooks = AllHooks((Hooks(),))
    call = Call("/a/b", None)
    hooks.on_start(call)
    hooks.on_attempt(call, 1)
    hooks.on_retry(call, 1, DOWN, 0.1)
    hooks.on_end(call, None, 0.1)
    hooks.on_reload("tls", "")
    assert hooks.headers(call) == ()
