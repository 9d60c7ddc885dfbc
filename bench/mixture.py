"""A steady load of everything that callers do, through the real client."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
import time
from typing import TYPE_CHECKING

from kotaemon_grpc.client import NEW_CONVERSATION, CallError
from served import CORPUS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kotaemon_grpc.client import AgentClient

_WORKERS = 16
_TURNS = 3
_WORDS = 4000  # of a document that is imported: about 25 KiB
_SEED = 20260101
_MS_PER_S = 1000


class Mixture:
    """Works with a client: of each kind of work as many pieces as `_deeds` says, in turn.

    What it makes it deletes, so that the server holds as much in the end as in the beginning.

    Attributes:
        done_by_verb: how many pieces of work of each kind were done, failed ones too.
        failed: how many of them failed.
        first_failure: with what.
    """

    def __init__(self, client: AgentClient) -> None:
        """Take the client, which stays open for as long as the work goes on."""
        self._client = client
        asked = json.loads((CORPUS / "questions.json").read_text(encoding="utf-8"))
        self._questions = [each["question"] for each in asked["answerable"]]
        texts = sorted((CORPUS / "en").iterdir())
        self._words = " ".join(each.read_text(encoding="utf-8") for each in texts).split()
        self._random = random.Random(_SEED)  # noqa: S311 - the same work in each run
        self._numbers = itertools.count(1)
        self._times_ms: list[float] = []
        self._deeds: dict[Callable[[], Awaitable[None]], int] = {
            self._ask: 36,
            self._stream: 36,
            self._search: 24,
            self._chat: 12,
            self._import: 1,
        }
        self.done_by_verb = {deed.__name__.strip("_"): 0 for deed in self._deeds}
        self.failed = 0
        self.first_failure = ""

    @property
    def done(self) -> int:
        """How many pieces of work were done."""
        return sum(self.done_by_verb.values())

    def take_times_ms(self) -> list[float]:
        """Return how long each piece of work took since this was last asked."""
        taken, self._times_ms = self._times_ms, []
        return taken

    async def work(self, per_s: float) -> None:
        """Work until cancelled.

        Args:
            per_s: how many pieces of work are begun in a second, above 0; fewer if the
                server does not keep up.
        """
        order = [deed for deed, share in self._deeds.items() for _ in range(share)]
        self._random.shuffle(order)
        deeds = itertools.cycle(order)
        period_s = _WORKERS / per_s
        async with asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._worker(deeds, period_s, number / per_s))

    async def _worker(
        self, deeds: itertools.cycle[Callable[[], Awaitable[None]]], period_s: float, wait_s: float
    ) -> None:
        next_s = time.monotonic() + wait_s
        while True:
            await asyncio.sleep(next_s - time.monotonic())
            # Who is late does not catch up: the load stays steady.
            next_s = max(next_s + period_s, time.monotonic())
            await self._do(next(deeds))

    async def _do(self, deed: Callable[[], Awaitable[None]]) -> None:
        begun_s = time.monotonic()
        try:
            await deed()
        except CallError as error:
            self.failed += 1
            self.first_failure = self.first_failure or f"{deed.__name__.strip('_')}: {error}"
        self._times_ms.append((time.monotonic() - begun_s) * _MS_PER_S)
        self.done_by_verb[deed.__name__.strip("_")] += 1

    async def _ask(self) -> None:
        """Ask, and every other time in a conversation that is kept until it is answered."""
        if next(self._numbers) % 2:
            await self._client.ask(self._question())
        else:
            answer = await self._client.ask(self._question(), conversation=NEW_CONVERSATION)
            await self._client.delete_conversation(answer.conversation)

    async def _stream(self) -> None:
        async for _ in self._client.stream(self._question()):
            pass

    async def _search(self) -> None:
        await self._client.search(self._question())

    async def _chat(self) -> None:
        async def questions() -> AsyncIterator[str]:
            for _ in range(_TURNS):
                yield self._question()

        async for _ in self._client.chat(questions()):
            pass

    async def _import(self) -> None:
        text = " ".join(self._random.choices(self._words, k=_WORDS))
        number = next(self._numbers)
        imported = await self._client.import_document(
            io.BytesIO(text.encode()), uri=f"https://example.com/soak/{number}.txt"
        )
        await self._client.delete_document(imported.document.name)

    def _question(self) -> str:
        return self._random.choice(self._questions)
