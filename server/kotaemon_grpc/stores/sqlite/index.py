"""The tantivy index of one scope: which passages fit a query, and how well.

It holds no text, only terms and the keys of passages and documents. Beside it
lies `state.json`, which says what a commit of the index holds:

    {"format": 1, "opstamp": 40, "sequence": 7, "next_sequence": 9}

It is written just before each commit. The index is at `sequence` while its own
`meta.json` has that opstamp, and at `next_sequence` when it has a later one, so
that both change in one step. Anything else, and the index is made anew.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from typing import TYPE_CHECKING, Any

import tantivy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

FORMAT = 2
"""Of the index. Raise it when the analysis of text or the fields change: it is made anew."""

_HEAP_BYTES = 15_000_000  # the least that tantivy takes for a thread
_THREADS = 1  # more segments at once would only make more to merge
_STATE_BYTES = 256
_FULL_SIGNS = ("no space left", "storagefull", "quota exceeded", "os error 28", "os error 122")


class IndexFault(Exception):
    """The index could not be read or written; `full` if for want of room."""

    def __init__(self, message: str, *, full: bool) -> None:
        """Take what tantivy said."""
        super().__init__(message)
        self.full = full


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise IndexFault(str(error), full=_is_full(path, error)) from error
    except BaseException as error:
        # tantivy panics over some damaged files; the type of that cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise IndexFault(str(error), full=False) from error


def _is_full(path: Path, error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(sign in str(error).lower() for sign in _FULL_SIGNS):
        return True
    # Of a failure on its own threads, tantivy only says that there was one.
    try:
        return shutil.disk_usage(path.parent).free < _HEAP_BYTES
    except OSError:
        return False


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("terms", tokenizer_name="whitespace", index_option="freq")
    builder.add_unsigned_field("passage", fast=True)
    builder.add_unsigned_field("document", indexed=True)
    return builder.build()


class Snapshot:
    """An index as it was after one of its commits. Safe to use on any thread."""

    def __init__(self, path: Path, schema: tantivy.Schema, searcher: tantivy.Searcher) -> None:
        """Take what tantivy gave."""
        self._path = path
        self._schema = schema
        self._searcher = searcher

    def search(
        self, weights: Mapping[str, float], limit: int, offset: int = 0
    ) -> list[tuple[float, int]]:
        """Return the scores and keys of the best passages by weighted BM25, best first.

        Raises:
            IndexFault: the index is damaged.
        """
        term_query = tantivy.Query.term_query
        boosted = tantivy.Query.boost_query
        clauses = [
            (
                tantivy.Occur.Should,
                boosted(term_query(self._schema, "terms", term, "freq"), weight),
            )
            for term, weight in weights.items()
        ]
        with _faults(self._path):
            query = tantivy.Query.boolean_query(clauses)
            hits = self._searcher.search(query, limit, count=False, offset=offset).hits
            addresses = [address for _, address in hits]
            keys: list[Any] = self._searcher.fast_field_values("passage", addresses)
        return [(score, key) for (score, _), key in zip(hits, keys, strict=True)]

    def idf(self, terms: Iterable[str]) -> dict[str, float]:
        """Return the inverse document frequency of terms, as BM25 defines it.

        Raises:
            IndexFault: the index is damaged.
        """
        with _faults(self._path):
            count = self._searcher.num_docs
            frequencies = {term: self._searcher.doc_freq("terms", term) for term in terms}
        return {term: idf(count, frequency) for term, frequency in frequencies.items()}


def idf(count: int, frequency: int) -> float:
    """Return ln(1 + (N - n + 0.5) / (n + 0.5)): above 0, the higher the rarer.

    Args:
        count: N, the passages.
        frequency: n, those with the term; passages that are gone may still be
            counted in it, so it can be above N.
    """
    frequency = min(frequency, count)
    return math.log(1 + (count - frequency + 0.5) / (frequency + 0.5))


class PassageIndex:
    """An open index. Reading is safe on any thread, changing on one at a time."""

    def __init__(self, path: Path, index: tantivy.Index, sequence: int) -> None:
        """Take what `open` or `create` prepared."""
        self.path = path
        self._index = index
        self._schema = index.schema
        self._writer: tantivy.IndexWriter | None = None
        self.sequence = sequence

    @classmethod
    def open(cls, path: Path) -> PassageIndex:
        """Open an index that exists.

        Raises:
            IndexFault: there is none, or it is damaged or of another format.
        """
        sequence = stored_sequence(path)
        if sequence is None:
            raise IndexFault("the index is missing, damaged or of another format", full=False)
        with _faults(path):
            return cls(path, _manual(tantivy.Index.open(str(path))), sequence)

    @classmethod
    def create(cls, path: Path) -> PassageIndex:
        """Make an empty index, in place of whatever is there.

        Raises:
            IndexFault: it cannot be written.
        """
        with _faults(path):
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            path.mkdir(mode=0o700)
            return cls(path, _manual(tantivy.Index(_schema(), path=str(path))), 0)

    def snapshot(self) -> Snapshot:
        """Return the index as its latest commit left it.

        Raises:
            IndexFault: it is damaged.
        """
        with _faults(self.path):
            return Snapshot(self.path, self._schema, self._index.searcher())

    def apply(
        self,
        gone: Iterable[int],
        passages: Iterable[tuple[int, int, Sequence[str]]],
        sequence: int,
    ) -> None:
        """Change the index, whole or not at all, and let snapshots see it.

        Args:
            gone: keys of documents, all of whose passages are taken out.
            passages: key, document's key and terms of those that are put in.
            sequence: the number of the last change that this brings.

        Raises:
            IndexFault: it cannot be written; it stays as it was.
        """
        writer = self._open_writer()
        try:
            with _faults(self.path):
                # By a query: by a term, tantivy-py deletes nothing of a field of numbers.
                for document in gone:
                    writer.delete_documents_by_query(
                        tantivy.Query.term_query(self._schema, "document", document)
                    )
                for key, document, terms in passages:
                    entry = tantivy.Document()
                    entry.add_text("terms", " ".join(terms))
                    entry.add_unsigned("passage", key)
                    entry.add_unsigned("document", document)
                    writer.add_document(entry)
                self._announce(sequence)
                writer.commit()
                self.sequence = sequence
                self._index.reload()
        except BaseException:
            # What the writer still holds must not come with the next commit. It goes, and its
            # lock with it, when nothing refers to it: neither may this frame, in a traceback.
            del writer
            self.release()
            raise

    def _open_writer(self) -> tantivy.IndexWriter:
        with _faults(self.path):
            if self._writer is None:
                self._writer = self._index.writer(_HEAP_BYTES, _THREADS)
            return self._writer

    def release(self) -> None:
        """Let go of the memory and the threads that changing takes, until the next change."""
        self._writer = None

    def _announce(self, next_sequence: int) -> None:
        state = {
            "format": FORMAT,
            "opstamp": _opstamp(self.path),
            "sequence": self.sequence,
            "next_sequence": next_sequence,
        }
        # In place, in one write of one length, and not waited for: a loss of power can leave
        # an older one, which tells of too early a sequence. That does no harm.
        file = os.open(self.path / "state.json", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(file, json.dumps(state).ljust(_STATE_BYTES).encode(), 0)
        finally:
            os.close(file)


def stored_sequence(path: Path) -> int | None:
    """Tell up to which change an index that is not open has come; None: make it anew."""
    try:
        state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
        opstamp = _opstamp(path)
        if state["format"] != FORMAT or opstamp < state["opstamp"]:
            return None
        at_old = opstamp == state["opstamp"]
        return int(state["sequence"] if at_old else state["next_sequence"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _opstamp(path: Path) -> int:
    return int(json.loads((path / "meta.json").read_bytes())["opstamp"])


def _manual(index: tantivy.Index) -> tantivy.Index:
    # A reload follows each commit here; a thread that watches the directory is not needed.
    index.config_reader("manual", 0)
    return index
