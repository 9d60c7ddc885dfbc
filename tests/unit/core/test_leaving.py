"""Streams that wait for what comes next, or for the server to leave."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.core.leaving import Leaving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Messages:
    """Gives what is sent; ends with None."""

    def __init__(self) -> None:
        self.sent = asyncio.Queue[str | None]()
        self.is_read = asyncio.Event()

    async def __call__(self) -> AsyncIterator[str]:
        while True:
            self.is_read.set()
            message = await self.sent.get()
            if message is None:
                return
            yield message


async def test_what_comes_is_given_until_its_end() -> None:
    leaving, messages = Leaving(), Messages()
    for message in ("a", "b", None):
        messages.sent.put_nowait(message)
    items = messages()
    assert [await leaving.next_before(items) for _ in range(3)] == ["a", "b", None]
    assert not leaving.is_said


async def test_all_who_wait_are_told_at_once_and_go_on() -> None:
    leaving = Leaving()

    async def stream(messages: Messages) -> str:
        assert await leaving.next_before(messages()) is None
        await asyncio.sleep(0)  # nothing is left of what woke it
        return f"{leaving.grace_s}"

    waiting = [Messages() for _ in range(3)]
    streams = [asyncio.create_task(stream(each)) for each in waiting]
    for each in waiting:
        await each.is_read.wait()
    leaving.say(2.5)
    assert await asyncio.gather(*streams) == ["2.5"] * 3
    assert [each.cancelling() for each in streams] == [0, 0, 0]


async def test_who_works_is_not_disturbed_and_hears_it_when_it_asks() -> None:
    leaving, messages = Leaving(), Messages()
    messages.sent.put_nowait("a")
    items = messages()
    assert await leaving.next_before(items) == "a"
    leaving.say(0)
    await asyncio.sleep(0)
    messages.sent.put_nowait("b")
    assert await leaving.next_before(items) is None


@pytest.mark.parametrize("order", ["before", "after", "alone"])
async def test_who_is_cancelled_too_is_cancelled(order: str) -> None:
    leaving, messages = Leaving(), Messages()
    stream = asyncio.create_task(leaving.next_before(messages()))
    await messages.is_read.wait()
    if order == "after":
        leaving.say(0)
    stream.cancel()
    if order == "before":
        leaving.say(0)
    with pytest.raises(asyncio.CancelledError):
        await stream


async def test_who_was_cancelled_is_not_woken_later() -> None:
    leaving, messages = Leaving(), Messages()

    async def stream() -> bool:
        try:
            await leaving.next_before(messages())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
        leaving.say(0)
        await asyncio.sleep(0)
        return True

    running = asyncio.create_task(stream())
    await messages.is_read.wait()
    running.cancel()
    assert await running
