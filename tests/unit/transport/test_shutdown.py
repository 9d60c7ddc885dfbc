from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kotaemon_grpc.transport.shutdown import StopSignals


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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


async def test_work_is_done_unless_a_signal_comes_first() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async with StopSignals() as stop:
        assert await stop.done_before_stop(asyncio.sleep(0))
        os.kill(os.getpid(), signal.SIGTERM)
        assert not await stop.done_before_stop(never())


async def handlers_have_run() -> None:
    """Wait until the loop has read its signals: a later one of another kind was handled."""
    handled = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, handled.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await handled.wait()
    loop.remove_signal_handler(signal.SIGUSR1)


async def test_afterwards_signals_do_what_they_did_before() -> None:
    async with StopSignals():
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
