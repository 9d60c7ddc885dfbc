"""Work that is claimed, with a fake store."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.errors import Overloaded, RequestIdReused, StorageFull, StorageUnavailable
from kotaemon_grpc.core.model import Answer, FinishReason
from kotaemon_grpc.core.once import (
    MAX_WAITING,
    AlreadyDone,
    Answered,
    Claim,
    Deleted,
    Once,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLAIM = Claim("acme", "someone", "r-1", b"\x01" * 32)
OTHER_CONTENT = replace(CLAIM, fingerprint=b"\x02" * 32, field="header.request_id")


class BrokenError(Exception):
    """What work fails with."""


class Work:
    """Tells its attempts apart, and remembers its outcome; waits for `may_end`."""

    def __init__(self, once: Once) -> None:
        self.once = once
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.attempts = 0
        self.fails = False

    def by(self, claim: Claim | None) -> Callable[[], Awaitable[Answered]]:
        async def work() -> Answered:
            self.attempts += 1
            outcome = Answered(Answer(f"{self.attempts}", (), FinishReason.ANSWERED))
            self.begun.set()
            await self.may_end.wait()
            if self.fails:
                self.fails = False
                raise BrokenError
            await self.once.remember(claim, outcome)
            return outcome

        return work

    async def run(self, claim: Claim | None = CLAIM) -> str:
        return (await self.once.run(claim, Answered, self.by(claim))).answer.text


@pytest.fixture
def work(once: Once) -> Work:
    return Work(once)


async def held_up(work: Work, count: int) -> list[asyncio.Task[str]]:
    """Begin runs, of which the first is at work and the others wait for it."""
    work.may_end.clear()
    runs = [asyncio.create_task(work.run()) for _ in range(count)]
    await work.begun.wait()
    for _ in range(5):  # each is where it waits by then
        await asyncio.sleep(0)
    assert work.attempts == 1
    return runs


async def test_what_was_done_is_not_done_again(work: Work) -> None:
    assert [await work.run() for _ in range(3)] == ["1", "1", "1"]
    assert work.attempts == 1


async def test_what_has_no_name_is_done_each_time(work: Work, requests: Any) -> None:
    assert [await work.run(None) for _ in range(3)] == ["1", "2", "3"]
    assert not requests.outcomes


async def test_of_many_at_once_one_works_and_all_have_its_outcome(work: Work) -> None:
    runs = await held_up(work, 10)
    work.may_end.set()
    assert await asyncio.gather(*runs) == ["1"] * 10
    assert work.attempts == 1


async def test_when_the_first_fails_the_next_works(work: Work) -> None:
    work.fails = True
    first, *others = await held_up(work, 3)
    work.may_end.set()
    with pytest.raises(BrokenError):
        await first
    assert await asyncio.gather(*others) == ["2", "2"]


async def test_when_the_first_is_cancelled_the_next_works(work: Work) -> None:
    first, *others = await held_up(work, 3)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    work.may_end.set()
    assert await asyncio.gather(*others) == ["2", "2"]


async def test_who_waits_may_leave(work: Work) -> None:
    first, second, third = await held_up(work, 3)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    work.may_end.set()
    assert await asyncio.gather(first, third) == ["1", "1"]


async def test_when_too_many_wait_more_are_refused(work: Work) -> None:
    async def refusal() -> BaseException | None:
        run = asyncio.create_task(work.run())
        await asyncio.sleep(0)
        assert run.done()
        return run.exception()

    runs = await held_up(work, 1 + MAX_WAITING)
    for _ in range(2):
        refused = await refusal()
        assert isinstance(refused, Overloaded)
        assert refused.retry_after_s > 0
    # The place of one who leaves is free.
    runs.pop().cancel()
    await asyncio.sleep(0)
    runs.append(asyncio.create_task(work.run()))
    await asyncio.sleep(0)
    assert isinstance(await refusal(), Overloaded)
    work.may_end.set()
    assert await asyncio.gather(*runs) == ["1"] * (1 + MAX_WAITING)
    assert await work.run() == "1"


async def test_who_waits_is_not_refused_when_the_first_fails(work: Work) -> None:
    work.fails = True
    first, *others = await held_up(work, 1 + MAX_WAITING)
    work.may_end.set()
    with pytest.raises(BrokenError):
        await first
    assert await asyncio.gather(*others) == ["2"] * MAX_WAITING


async def test_each_claim_has_waiters_of_its_own(work: Work) -> None:
    runs = await held_up(work, 1 + MAX_WAITING)
    other = [asyncio.create_task(work.run(replace(CLAIM, principal="x"))) for _ in range(2)]
    await asyncio.sleep(0)
    work.may_end.set()
    assert await asyncio.gather(*runs, *other) == ["1"] * len(runs) + ["2", "2"]


async def test_an_id_with_other_content_is_refused(work: Work) -> None:
    await work.run()
    with pytest.raises(RequestIdReused) as raised:
        await work.run(OTHER_CONTENT)
    assert [each.field for each in raised.value.violations] == ["header.request_id"]
    assert work.attempts == 1


async def test_it_is_refused_at_once_while_the_first_works(work: Work) -> None:
    (first,) = await held_up(work, 1)
    with pytest.raises(RequestIdReused):
        await work.run(OTHER_CONTENT)
    work.may_end.set()
    assert await first == "1"


async def test_an_id_that_was_refused_or_failed_is_free(work: Work) -> None:
    work.fails = True
    with pytest.raises(BrokenError):
        await work.run()
    assert await work.run(OTHER_CONTENT) == "2"


@pytest.mark.parametrize("other", [{"tenant": "other"}, {"principal": "x"}, {"request_id": "r-2"}])
async def test_the_same_id_of_another_caller_is_another(work: Work, other: dict[str, str]) -> None:
    (first,) = await held_up(work, 1)
    work.begun.clear()
    second = asyncio.create_task(work.run(replace(CLAIM, **other)))
    await work.begun.wait()
    work.may_end.set()
    assert (await first, await second) == ("1", "2")


async def test_an_outcome_of_another_kind_is_that_of_another_request(
    work: Work, requests: Any
) -> None:
    await requests.remember(CLAIM, Deleted())
    with pytest.raises(RequestIdReused):
        await work.run()


async def test_another_server_that_is_faster_decides(work: Work, requests: Any) -> None:
    (run,) = await held_up(work, 1)
    await requests.remember(CLAIM, Answered(Answer("theirs", (), FinishReason.ANSWERED)))
    work.may_end.set()
    assert await run == "theirs"


async def test_a_store_that_says_done_and_knows_nothing_is_a_fault(once: Once) -> None:
    async def work() -> Answered:
        raise AlreadyDone

    with pytest.raises(RuntimeError, match="forgotten"):
        await once.run(CLAIM, Answered, work)


@pytest.mark.parametrize("error", [StorageFull(), StorageUnavailable()])
async def test_an_outcome_that_cannot_be_remembered_is_given_all_the_same(
    work: Work, requests: Any, error: Exception
) -> None:
    requests.error = error
    assert [await work.run(), await work.run()] == ["1", "2"]
    requests.error = None
    assert [await work.run(), await work.run()] == ["3", "3"]


def test_content_is_a_part_of_a_claim() -> None:
    claims = [
        CLAIM,
        CLAIM.with_content("00" * 32),
        CLAIM.with_content("01" * 32),
        OTHER_CONTENT.with_content("01" * 32),
    ]
    assert len({each.fingerprint for each in claims}) == 4
    assert {each.key for each in claims} == {("acme", "someone", "r-1")}
    assert CLAIM.with_content("01" * 32) == claims[2]
