from __future__ import annotations

import asyncio
import os
import queue
import signal
from typing import Any

import pytest

from kotaemon_grpc.transport.shutdown import StopSignals, done_before, exit_within


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_the_first_signal_asks_to_stop_and_the_second_exits(number: signal.Signals) -> None:
    exits: asyncio.Queue[int] = asyncio.Queue()
    clock = Clock()
    async with StopSignals(exits.put_nowait, clock) as stop:
        os.kill(os.getpid(), number)
        assert await stop.wait_for_stop() is number
        clock.now_s += 0.4
        os.kill(os.getpid(), signal.SIGTERM)  # as a tool does that signals the group as well
        await handlers_have_run()
        assert exits.empty()
        clock.now_s += 0.2
        os.kill(os.getpid(), signal.SIGTERM)
        assert await exits.get() == 128 + signal.SIGTERM


class Work:
    """Goes on until it is cancelled."""

    def __init__(self) -> None:
        self.is_over = False

    async def __call__(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.is_over = True


async def test_work_is_done_before_its_end_or_cancelled() -> None:
    work, end = Work(), Work()
    assert await done_before(asyncio.sleep(0), end())
    assert end.is_over
    assert not await done_before(work(), asyncio.sleep(0))
    assert work.is_over


async def test_what_fails_of_work_and_end_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no")

    for work, end in ((fail(), Work()()), (Work()(), fail())):
        with pytest.raises(OSError, match="no"):
            await done_before(work, end)


async def test_a_signal_is_the_end_of_work() -> None:
    async with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not await done_before(Work()(), stop.wait_for_stop())


def test_the_process_is_ended_when_its_time_is_over_even_if_the_loop_hangs() -> None:
    exits: queue.Queue[int] = queue.Queue()
    exit_within(0, 7, exits.put)
    assert exits.get(timeout=60) == 7


def test_a_process_that_ends_by_itself_is_left_alone() -> None:
    exits: queue.Queue[int] = queue.Queue()
    timer = exit_within(3600, 7, exits.put)
    timer.cancel()
    timer.join()
    assert exits.empty()


async def handlers_have_run() -> None:
    """Wait until the loop has read its signals: a later one of another kind was handled."""
    handled = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, handled.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await handled.wait()
    loop.remove_signal_handler(signal.SIGUSR1)


def pass_over(*_: object) -> None:
    """Handle a signal."""


@pytest.mark.parametrize("before", [signal.SIG_DFL, pass_over])
async def test_afterwards_signals_do_what_they_did_before(
    before: Any,
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    original = [signal.signal(number, before) for number in numbers]
    try:
        async with StopSignals():
            assert before not in map(signal.getsignal, numbers)
        assert [signal.getsignal(number) for number in numbers] == [before] * 3
    finally:
        for number, handler in zip(numbers, original, strict=True):
            signal.signal(number, handler)


async def test_who_ignores_the_end_of_the_terminal_goes_on() -> None:
    original = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        async with StopSignals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, original)
