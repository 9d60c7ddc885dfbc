"""Which handlers run, in every shape, and how all of them are stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kotaemon_grpc.core.errors import ShuttingDown
from kotaemon_grpc.pipeline.deadline import Deadlines, TimeLimits
from kotaemon_grpc.pipeline.running import Running

ENDLESS_S = 3600.0
WITH_EVENT = ["server_stream", "bidi_stream"]
SHAPES = [
    *("unary", "client_stream", *WITH_EVENT, "plain_server_stream", "plain_bidi_stream"),
    *("native_unary", "native_client_stream", "native_server_stream", "native_bidi_stream"),
    *("written_server_stream", "written_bidi_stream"),
]
GUARDS = [Deadlines(TimeLimits(ENDLESS_S, ENDLESS_S, ENDLESS_S, ENDLESS_S, ENDLESS_S))]


async def forever(_context: Any) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("own_s", [None, ENDLESS_S / 2])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_call_that_is_stopped_says_why(
    shape: str, own_s: float | None, serving: Any
) -> None:
    running = Running()
    async with serving(forever, messages=1, stages=[running], guards=GUARDS) as served:
        begun = served.call(shape, timeout=own_s)
        await served.handlers.begun.wait()
        (call,) = running
        assert call is served.recorder.calls[0]
        running.interrupt_all(ShuttingDown())
        outcome = await served.outcome(begun)
        await running.wait_until_none()
        assert served.handlers.running == 0
    assert (outcome.code, outcome.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert outcome.failure.detail("RetryInfo").retry_delay.ToSeconds() == 1
    assert "grpc-retry-pushback-ms" not in outcome.everything  # it was begun
    assert list(running) == []
    if shape in WITH_EVENT:
        assert outcome.messages[-1].failed == outcome.failure.status


async def test_a_call_that_waits_for_its_message_is_stopped(serving: Any) -> None:
    running = Running()
    async with serving(stages=[running], guards=GUARDS) as served:
        begun = await served.open("bidi_stream")
        await served.handlers.begun.wait()
        running.interrupt_all(ShuttingDown())
        assert (await served.outcome(begun)).reason == "SHUTTING_DOWN"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_handler_that_cleans_up_runs_after_its_client_has_gone(
    shape: str, serving: Any
) -> None:
    running, cleaning, is_clean = Running(), asyncio.Event(), asyncio.Event()

    async def clean_up(_context: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await is_clean.wait()

    async with serving(clean_up, stages=[running], guards=GUARDS) as served:
        begun = served.call(shape)
        await served.handlers.begun.wait()
        begun.cancel()
        await cleaning.wait()
        assert len(list(running)) == 1
        none_runs = asyncio.create_task(running.wait_until_none())
        await asyncio.sleep(0)
        assert not none_runs.done()
        is_clean.set()
        await none_runs
        assert served.handlers.running == 0


async def test_calls_that_begin_meanwhile_are_waited_for(serving: Any) -> None:
    running, let_go = Running(), asyncio.Queue[None]()

    async def wait(_context: Any) -> None:
        await let_go.get()

    async with serving(wait, stages=[running], guards=GUARDS) as served:
        calls = [served.call("unary")]
        await served.handlers.begun.wait()
        none_runs = asyncio.create_task(running.wait_until_none())
        served.handlers.begun.clear()
        calls.append(served.call("unary"))
        await served.handlers.begun.wait()
        let_go.put_nowait(None)
        await calls[0]
        await asyncio.wait(served.recorder.tasks, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)
        assert not none_runs.done()
        let_go.put_nowait(None)
        await calls[1]
        await none_runs


@pytest.mark.parametrize("shape", ["unary", "server_stream"])
async def test_a_call_that_is_refused_runs_no_more(shape: str, serving: Any) -> None:
    running = Running()
    late = Deadlines(TimeLimits(1e-9, 1e-9, 1e-9, 1e-9, 1e-9))
    async with serving(forever, stages=[running], guards=[late]) as served:
        assert (await served.run(shape)).code == "DEADLINE_EXCEEDED"
        await running.wait_until_none()
