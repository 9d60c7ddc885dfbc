"""kill -9 during an import, twenty times on one data directory.

What was acknowledged is there after each restart, whole; what was not is there
whole or not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kotaemon_grpc.client import AgentClient, ClientError, RetryPolicy
from kotaemon_grpc.documents.parser import parse_text

if TYPE_CHECKING:
    from collections.abc import Callable


ROUNDS = 20
CONCURRENT = 8
SEED = 20240607
MAX_ACKNOWLEDGED = 30
MAX_DELAY_S = 0.04  # about two commits and the index's catching up
_LETTERS = "bcdfghjklm"


@dataclass(frozen=True)
class Version:
    """What a document says at one time; two words of it are in no other text."""

    id: str
    head: str
    tail: str
    text: str
    sha256: str
    passages: int

    @classmethod
    def make(cls, document_id: str, number: int, parts: int) -> Version:
        digits = "".join(_LETTERS[int(digit)] for digit in f"{number:05}")
        head, tail = f"wq{digits}xh", f"wq{digits}xt"
        body = "\n\n".join(
            f"## Part {part}\n\nThe ferry sailed in part {part}. " + "It rained on the quay. " * 20
            for part in range(parts)
        )
        text = f"# About {head}\n\nIt begins with {head}.\n\n{body}\n\nIt ends with {tail}.\n"
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        passages = len(parse_text(text, "text/markdown").passages)
        return cls(document_id, head, tail, text, sha256, passages)


@dataclass
class Ledger:
    """What the importing client knows."""

    acknowledged: dict[str, Version] = field(default_factory=dict)
    in_flight: dict[str, Version] = field(default_factory=dict)
    superseded: list[Version] = field(default_factory=list)
    written: int = 0

    def next_version(self, dice: random.Random) -> Version:
        """A new document, or now and then a new version of one that there is."""
        self.written += 1
        idle = sorted(self.acknowledged.keys() - self.in_flight.keys())
        replaces = idle and dice.random() < 0.25
        document_id = dice.choice(idle) if replaces else f"document-{self.written}"
        parts = dice.choice([1, 3, 12, 60])
        return Version.make(document_id, self.written, parts)

    def settle(self, stored: dict[str, str]) -> list[Version]:
        """Hold the ledger against what is stored, by its hash; return what is new of both."""
        recent = list(self.in_flight.values())
        for document_id, version in self.in_flight.items():
            if stored.get(document_id) == version.sha256:
                if document_id in self.acknowledged:
                    self.superseded.append(self.acknowledged[document_id])
                self.acknowledged[document_id] = version
            else:
                self.superseded.append(version)
        self.in_flight.clear()
        expected = {each.id: each.sha256 for each in self.acknowledged.values()}
        assert stored == expected
        return recent


async def holds(client: AgentClient, word: str, version: Version) -> bool:
    results = await client.search(word, page_size=3)
    found = {result.document.rpartition("/")[2] for result in results if word in result.text}
    assert found <= {version.id}
    return bool(found)


async def check(client: AgentClient, ledger: Ledger, *, everything: bool) -> None:
    listed = [document async for document in client.list_documents()] if ledger.written else []
    in_flight = ledger.settle({each.name.rpartition("/")[2]: each.sha256 for each in listed})
    for document in listed:
        version = ledger.acknowledged[document.name.rpartition("/")[2]]
        assert document.state == "indexed"
        assert document.passage_count == version.passages
        assert document.size_bytes == len(version.text.encode())
    present = list(ledger.acknowledged.values()) if everything else in_flight
    for version in {*present, *in_flight, *ledger.superseded[-5:]}:
        is_stored = ledger.acknowledged.get(version.id) == version
        assert await holds(client, version.head, version) is is_stored
        assert await holds(client, version.tail, version) is is_stored


async def import_until_killed(
    client: AgentClient, ledger: Ledger, dice: random.Random, kill: Callable[[], None]
) -> list[Version]:
    wanted = dice.randrange(1, MAX_ACKNOWLEDGED)
    delay_s = dice.uniform(0, MAX_DELAY_S)
    enough = asyncio.Event()
    done: list[Version] = []

    async def work() -> None:
        while True:
            version = ledger.next_version(dice)
            ledger.in_flight[version.id] = version
            try:
                await client.import_document(
                    io.BytesIO(version.text.encode()),
                    uri=f"https://example.org/{version.id}.md",
                    document_id=version.id,
                )
            except ClientError:
                return
            del ledger.in_flight[version.id]
            if version.id in ledger.acknowledged:
                ledger.superseded.append(ledger.acknowledged[version.id])
            ledger.acknowledged[version.id] = version
            done.append(version)
            if len(done) >= wanted:
                enough.set()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENT):
            tasks.create_task(work())
        await enough.wait()
        await asyncio.sleep(delay_s)  # the moment is the subject
        kill()
    return done


async def test_kill_9_loses_nothing_acknowledged_and_serves_nothing_half(
    start: Callable[..., Any],
) -> None:
    dice = random.Random(SEED)  # noqa: S311 - to be the same in each run
    ledger = Ledger()
    recent: list[Version] = []
    for number in range(ROUNDS + 1):
        serving = await asyncio.to_thread(start)
        async with AgentClient(
            serving.address, tls=serving.tls, retry=RetryPolicy(attempts=1)
        ) as client:
            await check(client, ledger, everything=number == ROUNDS)
            for version in recent:
                if ledger.acknowledged[version.id] == version:
                    assert await holds(client, version.head, version)
                    assert await holds(client, version.tail, version)
            if number < ROUNDS:
                recent = await import_until_killed(client, ledger, dice, serving.process.kill)
                await asyncio.to_thread(serving.wait)
                assert serving.errors == []
    assert len(ledger.acknowledged) > ROUNDS
    assert serving.stop() == 0
