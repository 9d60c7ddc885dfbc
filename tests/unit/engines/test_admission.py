"""Places and the queue for them, on a clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.errors import Overloaded
from kotaemon_grpc.engines.admission import MAX_RETRY_S, MIN_RETRY_S, Admission

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.engines.admission import ShedReason


class BrokenError(Exception):
    """What a call raises."""


class House:
    """Three places unless told otherwise, and the calls that use them."""

    def __init__(
        self, places: int = 3, *, max_waiting: int = 2, max_wait_s: float = 10.0, chance: float = 0
    ) -> None:
        self.now_s = asyncio.get_running_loop().time()
        self.sheds: list[ShedReason] = []
        self.inside: list[Call] = []
        self.entered: list[Call] = []
        self.admission = Admission(
            places,
            max_waiting=max_waiting,
            max_wait_s=max_wait_s,
            clock=lambda: self.now_s,
            on_shed=self.sheds.append,
            chance=lambda: chance,
        )

    @property
    def load(self) -> tuple[int, int]:
        return self.admission.in_flight, self.admission.waiting

    async def calls(self, count: int, remaining_s: float = 1000.0) -> list[Call]:
        """Start some calls and let them come as far as they can."""
        started = [Call(self, remaining_s) for _ in range(count)]
        await settled()
        return started

    async def serve_for(self, service_s: float) -> None:
        """Let one call after the other take a place for so long, until that is expected."""
        for _ in range(100):
            (call,) = await self.calls(1)
            self.now_s += service_s
            await call.end()


class Call:
    """A call that holds a place until it is ended."""

    def __init__(self, house: House, remaining_s: float) -> None:
        self.ending = asyncio.Event()
        self.task = asyncio.create_task(self.run(house, remaining_s))

    async def run(self, house: House, remaining_s: float) -> None:
        async with house.admission.admit(remaining_s):
            house.inside.append(self)
            house.entered.append(self)
            try:
                await self.ending.wait()
            finally:
                house.inside.remove(self)

    async def end(self) -> None:
        self.ending.set()
        await self.task
        await settled()

    async def cancel(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task
        await settled()

    async def refusal(self) -> Overloaded:
        with pytest.raises(Overloaded) as raised:
            await self.task
        return raised.value


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
async def no_error_reaches_the_loop() -> AsyncIterator[None]:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    yield
    assert told == []


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return on_its_clock(House(), monkeypatch)


def on_its_clock(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """Make the timers of the loop go by the clock of the house."""
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: house.now_s)
    return house


async def test_there_are_so_many_places_and_the_next_ones_wait(house: House) -> None:
    calls = await house.calls(5)
    assert house.inside == calls[:3]
    assert house.load == (3, 2)
    for call in calls:
        await call.end()
    assert house.entered == calls
    assert (house.load, house.sheds) == ((0, 0), [])


async def test_places_are_given_in_the_order_of_coming(house: House) -> None:
    calls = await house.calls(5)
    await calls[1].end()
    await calls[0].end()
    assert house.entered == [*calls[:3], calls[3], calls[4]]
    (latest,) = await house.calls(1)
    assert house.load == (3, 1)
    for call in [*calls[2:], latest]:
        await call.end()


async def test_a_place_comes_back_from_a_call_that_fails(house: House) -> None:
    async def fail() -> None:
        async with house.admission.admit():
            raise BrokenError

    with pytest.raises(BrokenError):
        await fail()
    assert house.load == (0, 0)


async def test_one_too_many_is_refused_at_once(house: House) -> None:
    calls = await house.calls(5)
    (refused,) = await house.calls(1)
    assert refused.task.done()
    await refused.refusal()
    assert (house.load, house.sheds) == ((3, 2), ["queue_full"])
    for call in calls:
        await call.end()


async def test_without_a_queue_whoever_finds_no_place_is_refused() -> None:
    house = House(1, max_waiting=0)
    (call,) = await house.calls(1)
    (refused,) = await house.calls(1)
    await refused.refusal()
    assert house.sheds == ["queue_full"]
    await call.end()
    (call,) = await house.calls(1)
    assert house.load == (1, 0)
    await call.end()


async def test_whoever_cannot_be_served_in_time_is_refused_at_once(house: House) -> None:
    await house.serve_for(3.0)
    calls = await house.calls(3)
    # The first place is left in a second, a third of what a call takes.
    late, early = await house.calls(1, remaining_s=0.9), await house.calls(1, remaining_s=1.1)
    assert late[0].task.done()
    await late[0].refusal()
    assert (house.load, house.sheds) == ((3, 1), ["would_expire"])
    late = await house.calls(1, remaining_s=1.9)
    await late[0].refusal()
    assert house.sheds == ["would_expire"] * 2
    for call in [*calls, *early]:
        await call.end()


async def test_nobody_waits_longer_than_the_configured_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = on_its_clock(House(max_wait_s=0.9), monkeypatch)
    await house.serve_for(3.0)
    calls = await house.calls(3)
    (refused,) = await house.calls(1)
    await refused.refusal()
    assert house.sheds == ["would_expire"]
    for call in calls:
        await call.end()


@pytest.mark.parametrize(("remaining_s", "patience_s"), [(4.0, 4.0), (1000.0, 10.0)])
async def test_a_wait_ends_with_the_deadline_or_the_configured_time(
    house: House, remaining_s: float, patience_s: float
) -> None:
    calls = await house.calls(3)
    (waiter,) = await house.calls(1, remaining_s)
    house.now_s += patience_s - 0.5
    await settled()
    assert house.load == (3, 1)
    house.now_s += 0.6
    await waiter.refusal()
    assert (house.load, house.sheds) == ((3, 0), ["timed_out"])
    for call in calls:
        await call.end()
    assert house.load == (0, 0)


async def test_whoever_waits_and_is_cancelled_leaves_no_hole(house: House) -> None:
    calls = await house.calls(5)
    await calls[3].cancel()
    assert house.load == (3, 1)
    await calls[0].end()
    assert house.inside == [calls[1], calls[2], calls[4]]
    for call in (calls[1], calls[2], calls[4]):
        await call.end()
    assert (house.load, house.sheds) == ((0, 0), [])


async def test_a_place_given_to_one_who_is_cancelled_goes_to_the_next(house: House) -> None:
    calls = await house.calls(5)
    calls[0].ending.set()
    await asyncio.sleep(0)
    # It was given the place, and has not run since.
    assert (house.load, calls[3] in house.inside) == ((3, 1), False)
    await calls[3].cancel()
    assert house.inside == [calls[1], calls[2], calls[4]]
    for call in (calls[1], calls[2], calls[4]):
        await call.end()
    assert house.load == (0, 0)


async def test_a_place_given_while_time_runs_out_is_kept(house: House) -> None:
    calls = await house.calls(4, remaining_s=5.0)
    calls[0].ending.set()
    house.now_s += 6.0
    await settled()
    assert house.inside == calls[1:]
    for call in calls[1:]:
        await call.end()
    assert (house.load, house.sheds) == ((0, 0), [])


@pytest.mark.parametrize("seed", range(100))
async def test_places_are_never_lost_or_doubled(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)  # noqa: S311 - the same in every run
    house = on_its_clock(House(max_waiting=chance.randint(0, 6)), monkeypatch)
    calls: list[Call] = []
    for _ in range(200):
        match chance.choice(["come", "come", "end", "cancel", "cancel", "time", "turn", "turn"]):
            case "come":
                calls.append(Call(house, chance.choice([0.0, 1.0, 1000.0])))
            case "end" if house.inside:
                chance.choice(house.inside).ending.set()
            case "cancel" if calls:
                chance.choice(calls[-8:]).task.cancel()
            case "time":
                house.now_s += chance.choice([0.01, 0.6, 12.0])
            case _:
                await asyncio.sleep(0)
        assert len(house.inside) <= house.admission.in_flight <= 3
        assert house.admission.in_flight == 3 or not house.admission.waiting
    await settled()
    assert len(house.inside) == house.admission.in_flight
    for call in calls:
        call.ending.set()
    await asyncio.gather(*(call.task for call in calls), return_exceptions=True)
    assert house.load == (0, 0)
    assert len(await house.calls(3)) == len(house.inside)
    for call in list(house.inside):
        await call.end()


@pytest.mark.parametrize(
    ("service_s", "chance", "retry_s"),
    [
        (3.0, 0.0, 3.0),  # three places, two before: the third place that is left
        (3.0, 0.5, 4.5),
        (0.0003, 0.0, MIN_RETRY_S),
        (0.0003, 1.0, 2 * MIN_RETRY_S),
        (600.0, 0.0, MAX_RETRY_S / 2),
        (600.0, 1.0, MAX_RETRY_S),
    ],
)
async def test_a_refusal_says_when_a_place_is_expected(
    service_s: float, chance: float, retry_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = on_its_clock(House(chance=chance, max_wait_s=10_000), monkeypatch)
    await house.serve_for(service_s)
    calls = await house.calls(5, remaining_s=10_000)
    (refused,) = await house.calls(1)
    assert (await refused.refusal()).retry_after_s == pytest.approx(retry_s)
    for call in calls:
        await call.end()


async def test_before_anything_was_served_the_queue_is_open(house: House) -> None:
    calls = await house.calls(5, remaining_s=0.1)
    assert (house.load, house.sheds) == ((3, 2), [])
    for call in calls:
        await call.end()


async def test_what_is_expected_follows_what_calls_take(house: House) -> None:
    await house.serve_for(30.0)
    await house.serve_for(0.3)
    calls = await house.calls(4, remaining_s=0.2)
    assert (house.load, house.sheds) == ((3, 1), [])
    for call in calls:
        await call.end()


async def test_new_places_are_given_to_those_who_wait() -> None:
    house = House(1, max_waiting=3)
    first, *others = await house.calls(4)
    house.admission.resize(3, max_waiting=3, max_wait_s=10)
    await settled()
    assert (house.entered, house.load) == ([first, *others[:2]], (3, 1))
    await others[0].end()
    assert house.load == (3, 0)


async def test_who_holds_a_place_that_is_taken_away_keeps_it() -> None:
    house = House(3, max_waiting=1)
    first, second, third, waiting = await house.calls(4)
    house.admission.resize(1, max_waiting=0, max_wait_s=10)
    (refused,) = await house.calls(1)
    assert (house.load, house.sheds) == ((3, 1), ["queue_full"])
    for each in (first, second):
        await each.end()
    assert (waiting in house.entered, house.load) == (False, (1, 1))
    await third.end()
    assert (house.inside, house.load) == ([waiting], (1, 0))
    await refused.refusal()


async def test_another_patience_is_that_of_those_who_come() -> None:
    house = House(1)
    await house.serve_for(5)
    await house.calls(1)
    house.admission.resize(1, max_waiting=2, max_wait_s=1)
    (refused,) = await house.calls(1)
    assert house.sheds == ["would_expire"]
    await refused.refusal()
