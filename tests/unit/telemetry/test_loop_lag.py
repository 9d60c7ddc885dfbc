from __future__ import annotations

import asyncio

import pytest

from kotaemon_grpc.telemetry.loop_lag import watch_loop_lag


class Loop:
    """A clock that moves when somebody sleeps, by so much more than asked, in turn."""

    def __init__(self, *late_s: float) -> None:
        self.now_s = 100.0
        self.slept_s: list[float] = []
        self._late_s = iter(late_s)

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        late_s = next(self._late_s, None)
        if late_s is None:
            raise asyncio.CancelledError
        self.now_s += duration_s + late_s


async def test_each_wake_up_is_reported_by_how_late_it_comes() -> None:
    loop = Loop(0.0, 0.25, -0.125, 2.0)
    reported: list[float] = []
    with pytest.raises(asyncio.CancelledError):
        await watch_loop_lag(reported.append, interval_s=0.5, clock=loop.clock, sleep=loop.sleep)
    assert reported == [0.0, 0.25, 0.0, 2.0]
    assert loop.slept_s == [0.5] * 5
