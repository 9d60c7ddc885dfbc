from __future__ import annotations

import asyncio
import os
import signal

import pytest

from kotaemon_grpc.transport.shutdown import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_asks_to_stop_and_the_second_exits(number: signal.Signals) -> None:
    exits: asyncio.Queue[int] = asyncio.Queue()
    async with StopSignals(exits.put_nowait) as stop:
        os.kill(os.getpid(), number)
        assert await stop.wait_for_stop() is number
        assert exits.empty()
        os.kill(os.getpid(), signal.SIGTERM)
        assert await exits.get() == 128 + signal.SIGTERM


async def test_afterwards_signals_do_what_they_did_before() -> None:
    async with StopSignals():
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
