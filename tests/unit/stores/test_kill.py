from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.model import Query, Scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kotaemon_grpc.stores.sqlite.store import SqliteStore

HERE = Scope("acme", "manuals")
CONTEXT = Context(Caller("someone", HERE.tenant))
ROUNDS = 5

CHILD = """
import asyncio, pathlib, sys
from kotaemon_grpc.core.model import DocumentDraft, Location, Passage, Scope
from kotaemon_grpc.stores.sqlite.store import SqliteStore

async def put(store, worker, first):
    for number in range(first, first + 1000):
        name = f"w{worker}n{number}"
        texts = [f"key{name} part{part}" for part in range(3)]
        passages = tuple(Passage(text, Location((), 0, len(text))) for text in texts)
        draft = DocumentDraft(name, "", "file:///x", "text/plain", 1, "0" * 64, passages)
        await store.documents.put(Scope("acme", "manuals"), draft, replace=False)
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()

async def main(path, first):
    store = SqliteStore.open(pathlib.Path(path))
    await asyncio.gather(*(put(store, worker, first) for worker in range(8)))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


async def test_what_was_acknowledged_survives_kill_9_whole(
    data_dir: Path, open_store: Callable[[], SqliteStore]
) -> None:
    acknowledged: set[str] = set()
    for round_number in range(ROUNDS):
        acknowledged |= put_and_kill(data_dir, first=round_number * 1000)
        store = open_store()
        assert store.index_lag() == 0
        page = await store.documents.list(HERE, after="", limit=10_000)
        stored = {document.id for document in page.items}
        assert acknowledged <= stored
        assert all(document.passage_count == 3 for document in page.items)
        # Also those that nobody was told of are whole.
        for document_id in stored:
            found = await store.retriever.retrieve(
                HERE, Query(f"key{document_id}", limit=100), CONTEXT
            )
            texts = [hit.passage.text for hit in found.hits]
            assert sorted(texts) == [f"key{document_id} part{part}" for part in range(3)]
        store.close()
    assert acknowledged


def put_and_kill(data_dir: Path, first: int) -> set[str]:
    """Run a process that stores documents, and kill it after some; return those it told of."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data_dir), str(first)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(random.randint(10, 150))]  # noqa: S311 - no secret
        child.kill()
        told += child.stdout.readlines()
    # The kill may have cut the last line.
    return {line.strip() for line in told if line.endswith("\n")}
