"""Measure retrieval and answers on labelled data, through the use cases that the services call.

    python bench/retrieval.py DIR

DIR holds squad.json, cmrc.json and cran.json; docs/retrieval-figures.md says where
they come from and what they look like. Prints a table, then one JSON object as the
last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tantivy

from kotaemon_grpc.core.ask import Asking
from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.documents import DocumentHeader, Documents
from kotaemon_grpc.core.model import Query, Question, Scope
from kotaemon_grpc.core.once import Once
from kotaemon_grpc.core.paging import PageTokens
from kotaemon_grpc.core.search import Searching
from kotaemon_grpc.documents.parser import TextParser
from kotaemon_grpc.documents.spool import TemporarySpool
from kotaemon_grpc.engines.local.engine import LocalEngine
from kotaemon_grpc.retrieval.query import weighted_terms
from kotaemon_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

CALLER = Caller("bench", "bench")
CONTEXT = Context(CALLER)
SCOPE = Scope(CALLER.tenant, "bench")
CONCURRENT_IMPORTS = 32
MANY_CHUNKS = 50_000
TIMED_QUERIES = 300
ROUNDS = 6
STARTS = 5


@dataclass(frozen=True, slots=True)
class DataSet:
    """Labelled data: documents by id, and queries with relevant ids and gold answers."""

    documents: Sequence[tuple[str, str]]
    queries: Sequence[tuple[str, str, dict[str, int], list[str]]]

    @classmethod
    def load(cls, file: Path) -> DataSet:
        """Read a file of the form that docs/retrieval-figures.md describes."""
        content = json.loads(file.read_text(encoding="utf-8"))
        # Cranfield has two abstracts without a word, which no server takes in.
        documents = [(each, text) for each, text in content["docs"] if text.strip()]
        return cls(documents, content["queries"])


class Bench:
    """A store in a directory of its own, with the use cases upon it."""

    def __init__(self, directory: Path) -> None:
        """Open the directory."""
        self.store = SqliteStore.open(directory)
        tokens = PageTokens(self.store.page_token_key)
        once = Once(self.store.requests)
        self._documents = Documents(
            store=self.store.documents,
            parser=TextParser(),
            spool=TemporarySpool(self.store.spool_dir),
            once=once,
            tokens=tokens,
            max_document_bytes=1 << 30,
        )
        self._searching = Searching(
            retriever=self.store.retriever, documents=self.store.documents, tokens=tokens
        )
        self._asking = Asking(
            engine=LocalEngine(self.store.retriever),
            documents=self.store.documents,
            conversations=self.store.conversations,
            once=once,
            history_turns=0,
            clock=lambda: datetime.now(UTC),
            new_id=str,
            on_answer=lambda _: None,
        )

    async def import_(self, documents: Iterable[tuple[str, str]]) -> float:
        """Import documents and return how many passages a second were taken in."""
        waiting = iter(documents)
        passages = 0

        async def worker() -> None:
            nonlocal passages
            for document_id, text in waiting:
                header = DocumentHeader(SCOPE, id=document_id, mime_type="text/plain")
                document, _ = await self._documents.ingest(
                    header, _single(text.encode()), replace=True
                )
                passages += document.passage_count

        start = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(CONCURRENT_IMPORTS)))
        return passages / (time.perf_counter() - start)

    async def search(self, text: str) -> list[str]:
        """Return the ids of the documents of the passages found, best first, each once."""
        page = await self._searching.search(SCOPE, Query(text), CONTEXT)
        return list(dict.fromkeys(hit.document.id for hit in page.items))

    async def answer(self, text: str) -> str:
        """Return the text of an answer."""
        dialogue = await self._asking.open(CONTEXT)
        return (await dialogue.answer(Question(text, SCOPE))).text


async def _single(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def quality(data: DataSet, directory: Path) -> dict[str, float]:
    """Measure a data set: what is found, and whether the answer has the gold answer."""
    bench = Bench(directory)
    try:
        await bench.import_(data.documents)
        first = fifth = gain = contained = 0.0
        answered = 0
        for _, text, relevant, gold in data.queries:
            found = await bench.search(text)
            first += any(each in relevant for each in found[:1])
            fifth += any(each in relevant for each in found[:5])
            gain += _ndcg(found, relevant)
            if gold:
                answered += 1
                answer = _folded(await bench.answer(text))
                contained += any(_folded(each) in answer for each in gold)
    finally:
        bench.store.close()
    count = len(data.queries)
    figures = {"r1": first / count, "r5": fifth / count, "ndcg10": gain / count}
    return {**figures, "contains3": contained / answered} if answered else figures


def _folded(text: str) -> str:
    return "".join(text.split()).lower()


def _ndcg(found: Sequence[str], relevant: dict[str, int]) -> float:
    gain = sum(
        1 / math.log2(rank + 2) for rank, each in enumerate(found[:10]) if relevant.get(each)
    )
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    return gain / ideal if ideal else 0.0


def many_chunks(data: DataSet) -> Iterable[tuple[str, str]]:
    """Make documents of one passage each, of the sentences of the data set's."""
    shuffle = random.Random(1)  # noqa: S311 - the same documents in each run
    sentences = [s for _, text in data.documents for s in text.split(". ") if s]
    for number in range(MANY_CHUNKS):
        yield f"d{number}", ". ".join(shuffle.sample(sentences, 5))


async def speed(data: DataSet, directory: Path) -> dict[str, float]:
    """Measure the import, and the search against tantivy called directly on the same index."""
    bench = Bench(directory)
    try:
        rate = await bench.import_(many_chunks(data))
        queries = [text for _, text, _, _ in data.queries[:TIMED_QUERIES]]
        direct = Direct(directory)
        ours_ms: list[float] = []
        direct_ms: list[float] = []
        for number in range(ROUNDS):
            for text in queries:
                # Whoever comes second finds warm caches, so they take turns.
                for is_ours in (True, False) if number % 2 else (False, True):
                    start = time.perf_counter()
                    if is_ours:
                        await bench.search(text)
                    else:
                        direct.search(text)
                    taken = ours_ms if is_ours else direct_ms
                    taken.append((time.perf_counter() - start) * 1e3)
    finally:
        bench.store.close()
    ours, theirs = statistics.median(ours_ms), statistics.median(direct_ms)
    return {"import": rate, "search_ms": ours, "direct_ms": theirs, "over_ms": ours - theirs}


class Direct:
    """The index of a collection, asked through tantivy alone."""

    def __init__(self, directory: Path) -> None:
        """Open the one index of a data directory."""
        (meta,) = directory.glob("index/**/meta.json")
        index = tantivy.Index.open(str(meta.parent))
        self._schema = index.schema
        self._searcher = index.searcher()

    def search(self, text: str) -> Any:
        """Ask what the store asks, and fetch nothing but the ranking."""
        clauses = [
            (
                tantivy.Occur.Should,
                tantivy.Query.boost_query(
                    tantivy.Query.term_query(self._schema, "terms", term, "freq"), weight
                ),
            )
            for term, weight in weighted_terms(Query(text)).items()
        ]
        return self._searcher.search(tantivy.Query.boolean_query(clauses), 10).hits


def start_s(directory: Path) -> float:
    """Measure the time from the start of the command to its `server.serving`: the median."""
    command = [
        str(Path(sys.executable).with_name("kotaemon-grpc")),
        "serve",
        f"--data-dir={directory}",
        f"--certs={directory / 'certs'}",
        "--listen=127.0.0.1:0",
        "--health-listen=127.0.0.1:0",
        "--operations-listen=127.0.0.1:0",
    ]
    taken: list[float] = []
    for _ in range(STARTS + 1):
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
            for line in process.stdout or ():
                if json.loads(line)["event"] == "server.serving":
                    taken.append(time.perf_counter() - start)
                    process.terminate()
    if len(taken) <= STARTS:
        raise RuntimeError("the server did not start; run the same command to see why")
    return statistics.median(taken[1:])  # the first one made the certificates


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("directory", type=Path, help="of squad.json, cmrc.json and cran.json")
    directory = parser.parse_args().directory
    data = {name: DataSet.load(directory / f"{name}.json") for name in ("squad", "cmrc", "cran")}
    work = Path(tempfile.mkdtemp(prefix="kotaemon-grpc-bench-"))
    try:
        figures = {name: asyncio.run(quality(each, work / name)) for name, each in data.items()}
        times = asyncio.run(speed(data["squad"], work / "many"))
        started_s = start_s(work / "many")
    finally:
        shutil.rmtree(work)
    report(figures, times, started_s)


def report(figures: dict[str, dict[str, float]], times: dict[str, float], started_s: float) -> None:
    """Print the table and the last line."""
    print(f"{'':8}{'R@1':>8}{'R@5':>8}{'nDCG@10':>9}{'contains@3':>12}")
    for name, row in figures.items():
        # Cranfield has no gold answers.
        contained = f"{row['contains3']:12.3f}" if "contains3" in row else f"{'-':>12}"
        print(f"{name:8}{row['r1']:8.3f}{row['r5']:8.3f}{row['ndcg10']:9.3f}{contained}")
    print(f"\nat {MANY_CHUNKS:,} chunks:")
    print(f"  import            {times['import']:8.0f} chunks/s")
    print(f"  search, p50       {times['search_ms']:8.2f} ms")
    print(f"  tantivy, p50      {times['direct_ms']:8.2f} ms")
    print(f"  start to serving  {started_s:8.2f} s\n")
    print(
        json.dumps(
            {
                **{
                    name: {key: round(figures[name][key], 4) for key in ("r1", "r5", "contains3")}
                    for name in ("squad", "cmrc")
                },
                "cran": {"ndcg10": round(figures["cran"]["ndcg10"], 4)},
                "search_ms_over_tantivy": round(times["over_ms"], 3),
                "import_chunks_per_s": round(times["import"]),
                "start_s": round(started_s, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
