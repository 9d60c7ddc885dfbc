"""`import` of what people really have on their disks."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from click.testing import CliRunner

from kotaemon_grpc.cli.import_ import import_
from kotaemon_grpc.client import ExhaustedError, InvalidArgumentError
from kotaemon_grpc.core.model import DEFAULT_TENANT, ImportOutcome, Scope
from kotaemon_grpc.documents.local_import import import_paths
from kotaemon_grpc.documents.walk import FoundFile, find_documents
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pb.v2 import agent_pb2_grpc as stubs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    Command = Callable[..., subprocess.CompletedProcess[str]]

MIB = 1 << 20
NOBODY = 65534
MAX_GROWTH_BYTES = 60 * MIB
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 8


def peak_rss_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def forget_peak(pid: int) -> None:
    # proc(5): 5 resets the peak resident set size to the present one.
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def test_import_is_recursive_and_of_unchanged_files_a_no_op(
    command: Command, server: Any, tmp_path: Path
) -> None:
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "in" / "a.md").write_text("# A\n\nAlpha.\n")
    (tmp_path / "in" / "deep" / "b.txt").write_text("Beta.\n")
    (tmp_path / "in" / "deep" / "er" / "c.MARKDOWN").write_text("# C\n\nGamma.\n")
    (tmp_path / "in" / "deep" / "image.png").write_bytes(PNG)
    (tmp_path / "in" / ".hidden.md").write_text("# Not for others\n")
    arguments = ["import", "in", "--collection=recursive", *server.flags]

    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 created, 0 replaced, 0 unchanged, 0 failed\n"
    assert command(*arguments).stdout == "0 created, 0 replaced, 3 unchanged, 0 failed\n"
    (tmp_path / "in" / "a.md").write_text("# A\n\nAlpha and omega.\n")
    assert command(*arguments).stdout == "0 created, 1 replaced, 2 unchanged, 0 failed\n"


def test_files_that_would_have_the_same_uri_are_refused_before_any_is_sent(
    command: Callable[..., subprocess.CompletedProcess[str]], server: Any, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.md").write_text(f"# {name}")
    flags = (*server.flags, "--collection=collisions")
    done = command("import", "a", "b", "--base-uri=https://example.org/x", *flags)
    assert done.returncode == 2
    assert "would have the same URI, https://example.org/x/same.md" in done.stderr
    assert command("documents", "list", *flags).returncode == 1  # the collection does not exist


def test_wrong_options_are_told_once_and_before_anything_is_sent(
    command: Callable[..., subprocess.CompletedProcess[str]], corpus: Path
) -> None:
    for option in ("--collection=My Notes", "--base-uri=no-uri"):
        done = command("import", str(corpus / "en"), option, "--target=127.0.0.1:1")
        assert done.returncode == 2
        assert done.stderr.count("must be") == 1


def test_a_base_uri_takes_the_place_of_the_path(
    command: Command, server: Any, tmp_path: Path
) -> None:
    (tmp_path / "in" / "a b").mkdir(parents=True)
    (tmp_path / "in" / "a b" / "c.md").write_text("# C\n\nGamma.\n")
    (tmp_path / "in" / os.fsdecode(b"latin-\xe9.txt")).write_text("Epsilon.\n")
    done = command(
        *("import", "in", "--base-uri=https://example.org/x/", "--collection=base"), *server.flags
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed = command("documents", "list", "--collection=base", *server.flags).stdout
    assert "<https://example.org/x/a%20b/c.md>" in listed
    assert "<https://example.org/x/latin-%E9.txt>" in listed


def test_each_bad_file_is_reported_in_one_line_and_the_rest_goes_on(
    command: Command, server: Any, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "good.md").write_text("# Good\n\nThis one is good.\n")
    (root / "empty.md").touch()
    (root / "blank.txt").write_text(" \n\t\n")
    (root / "picture.md").write_bytes(PNG)
    (root / "latin.txt").write_bytes("Ein Gruß aus Köln".encode("latin-1"))
    (root / "gone.md").symlink_to("nowhere.md")
    (root / "self.md").symlink_to("self.md")
    (root / "loop").symlink_to(".")
    os.mkfifo(root / "pipe.txt")
    (root / "wrong.pdf").write_bytes(b"%PDF-1.7")
    (root / "new\nline.md").touch()
    (root / "spaces and 中文.txt").write_text("Auch das ist gut.\n")
    done = command(
        *("import", "in", "in/wrong.pdf", "in/none.md", "--collection=faults"), *server.flags
    )
    assert done.returncode == 1
    assert done.stdout == "2 created, 0 replaced, 0 unchanged, 10 failed\n"
    reasons = dict(line.split(": ", 1) for line in done.stderr.splitlines())
    assert set(reasons) == {
        *("in/empty.md", "in/blank.txt", "in/picture.md", "in/latin.txt", "in/gone.md"),
        *("in/self.md", "in/pipe.txt", "in/wrong.pdf", "in/none.md", "in/new\\nline.md"),
    }
    assert "white space" in reasons["in/empty.md"]
    assert "white space" in reasons["in/blank.txt"]
    assert "UTF-8" in reasons["in/picture.md"]
    assert "UTF-8" in reasons["in/latin.txt"]
    assert reasons["in/gone.md"] == "no such file or directory"
    assert reasons["in/none.md"] == "no such file or directory"
    assert reasons["in/self.md"] == "too many levels of symbolic links"
    assert reasons["in/pipe.txt"] == "not a regular file"
    assert reasons["in/wrong.pdf"].startswith("not a supported kind of file; supported are .md")


def test_nothing_to_import_is_a_failure_that_says_so(
    command: Command, server: Any, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "image.png").write_bytes(PNG)
    done = command("import", "in", *server.flags)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no Markdown or text files")


def test_a_server_that_is_not_there_is_one_line_for_all_files(
    command: Command, certs: Path, corpus: Path
) -> None:
    done = command("import", str(corpus / "en"), "--target=127.0.0.1:1", f"--certs={certs}")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unavailable")


def test_the_progress_bar_is_for_terminals(server: Any, corpus: Path, tmp_path: Path) -> None:
    program = "from kotaemon_grpc.cli import main; main()"
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", program, "import", str(corpus / "en"), *server.flags],
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=tmp_path,
        text=True,
        check=True,
    )
    os.close(slave)
    assert done.stdout == "0 created, 0 replaced, 8 unchanged, 0 failed\n"
    assert "100%" in os.read(master, 65536).decode()
    os.close(master)


def test_the_import_on_start_reports_and_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (root / "good.md").write_text("# Good\n\nThis one is good.\n")
    (root / "empty.md").touch()
    (root / "big.txt").write_text("far too much\n" * 10)
    serving = start(
        f"--import={root}", f"--import={tmp_path / 'none'}", "--set=documents.max_document_bytes=99"
    )
    failed = {
        Path(line["path"]).name: line["reason"]
        for line in serving.lines
        if line["event"] == "import.failed"
    }
    assert set(failed) == {"empty.md", "big.txt", "none"}
    assert "limit of 99 bytes" in failed["big.txt"]
    (finished,) = [line for line in serving.lines if line["event"] == "import.finished"]
    assert (finished["created"], finished["failed"]) == (1, 3)
    assert serving.stop() == 0
    assert serving.errors == []


class VanishingFile:
    """A file that can be hashed once, and is gone when it is read again."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._reads = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        count = len(self._content)
        buffer[:count] = self._content
        self._content = b""
        return count

    def seek(self, *_where: int) -> int:
        return 0

    def read(self, size: int) -> bytes:
        self._reads += 1
        if self._reads > 1:
            raise OSError(5, "Input/output error")
        return b"x" * size


class ChangingFile(VanishingFile):
    """A file that grows between the hash and the read."""

    def read(self, size: int) -> bytes:
        self._reads += 1
        return b"more\n" * (self._reads == 1) if size else b""


class DeletingDocuments:
    """Takes in documents, and with the first one deletes all files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def ingest(
        self, header: object, chunks: AsyncIterator[bytes], *, replace: bool
    ) -> tuple[object, ImportOutcome]:
        del header, replace
        async for _ in chunks:
            pass
        for path in self._directory.iterdir():
            path.unlink()
        return object(), ImportOutcome.CREATED


async def test_files_that_vanish_between_walk_and_read_are_reported_on_start(
    tmp_path: Path,
) -> None:
    for number in range(100):
        (tmp_path / f"{number}.txt").write_text("soon gone")
    report = await import_paths(DeletingDocuments(tmp_path), Scope(DEFAULT_TENANT), [tmp_path])
    assert 0 < report.outcomes[ImportOutcome.CREATED] < 100
    assert report.outcomes[ImportOutcome.CREATED] + len(report.failures) == 100
    assert {reason for _, reason in report.failures} == {"no such file or directory"}


def test_a_file_that_vanishes_between_walk_and_read_is_reported_by_the_verb(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays.md").write_text("# Stays\n\nThis one stays.\n")
    (tmp_path / "goes.md").write_text("# Goes\n\nThis one goes.\n")

    def find_then_delete(paths: Iterable[Path]) -> list[object]:
        found = list(find_documents(paths))
        (tmp_path / "goes.md").unlink()
        return found

    monkeypatch.setattr("kotaemon_grpc.cli.import_.find_documents", find_then_delete)
    arguments = [str(tmp_path), "--collection=vanishing", *server.flags]
    done = CliRunner().invoke(import_, arguments, standalone_mode=False)
    assert done.return_value == 1
    assert done.stdout == "1 created, 0 replaced, 0 unchanged, 1 failed\n"
    assert done.stderr == f"{tmp_path}/goes.md: no such file or directory\n"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def test_what_may_not_be_read_is_reported() -> None:
    # pytest's own directories are closed to others.
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        (root / "secret.md").write_text("# Secret\n")
        (root / "secret.md").chmod(0)
        (root / "closed").mkdir(mode=0)
        (root / "open.md").write_text("# Open\n")
        (root / "open.md").chmod(0o644)
        with as_nobody():
            found = {each.path.name: each for each in find_documents([root])}
        assert set(found) == {"secret.md", "closed", "open.md"}
        assert isinstance(found.pop("open.md"), FoundFile)
        assert {each.reason for each in found.values()} == {"permission denied"}


async def test_a_file_that_vanishes_while_it_is_sent_leaves_nothing(server: Any) -> None:
    async with server.client() as client:
        with pytest.raises(OSError, match="Input/output error"):
            await client.import_document(
                VanishingFile(b"gone"), uri="file:///vanishing.txt", collection="collections/gone"
            )
        with pytest.raises(InvalidArgumentError, match="expected_sha256"):
            await client.import_document(
                ChangingFile(b"before"), uri="file:///changing.txt", collection="collections/gone"
            )
        # The connection is good for more, and nothing of the two was kept.
        with pytest.raises(Exception, match='collection "collections/gone" does not exist'):
            await client.ask("anything?", collection="collections/gone")
    assert not list((server.data_dir / "tmp").iterdir())


async def test_content_over_the_limit_is_refused_with_memory_flat(
    start: Callable[..., Any], command: Command, tmp_path: Path
) -> None:
    serving = start()
    with (tmp_path / "sparse.txt").open("wb") as sparse:
        sparse.truncate(300 * MIB)
    (tmp_path / "small.md").write_text("# Small\n\nThis one is small enough.\n")
    # So that what the first import of all loads is there before.
    assert command("import", "small.md", "--collection=warm", *serving.flags).returncode == 0
    forget_peak(serving.process.pid)
    before = peak_rss_bytes(serving.process.pid)

    done = command("import", "sparse.txt", "small.md", *serving.flags)
    assert done.returncode == 1
    assert done.stdout == "1 created, 0 replaced, 0 unchanged, 1 failed\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("sparse.txt: resource exhausted: the document is larger than the limit")
    async with serving.client() as client:
        with (
            (tmp_path / "sparse.txt").open("rb") as sparse,
            pytest.raises(ExhaustedError) as refused,
        ):
            await client.import_document(sparse, uri="file:///sparse.txt")
        assert refused.value.reason == "DOCUMENT_TOO_LARGE"

    assert peak_rss_bytes(serving.process.pid) - before < MAX_GROWTH_BYTES
    assert not list((serving.data_dir / "tmp").iterdir())


@pytest.mark.timeout(300)  # as long as its own import may take
def test_sixty_megabytes_of_text_import_and_are_found(
    start: Callable[..., Any], command: Command, tmp_path: Path, corpus: Path
) -> None:
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(corpus.glob("en/*")))
    repeats = 60 * MIB // len(text.encode())
    with (tmp_path / "large.txt").open("w", encoding="utf-8") as large:
        for number in range(repeats):
            large.write(f"{text}\n\nThis is copy number {number} of the papers.\n\n")
        large.write("The secret ingredient of the captain's chowder is quangleberry.\n")
    assert (tmp_path / "large.txt").stat().st_size > 59 * MIB
    serving = start()
    done = command("import", "large.txt", "--timeout=300", *serving.flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 created, 0 replaced, 0 unchanged, 0 failed\n"
    answer = command("ask", "What is the secret ingredient of the chowder?", *serving.flags)
    assert answer.returncode == 0
    assert "quangleberry" in answer.stdout


def test_half_of_a_document_is_not_taken_for_the_whole(start: Callable[..., Any]) -> None:
    """Core ends a stream with a message that is too large as if the client had ended it."""
    serving = start()
    parent = "collections/halves"

    def halves(number: int) -> Iterator[pb.ImportDocumentRequest]:
        header = pb.ImportDocumentHeader(parent=parent, document_id=f"d{number}")
        yield pb.ImportDocumentRequest(header=header)
        yield pb.ImportDocumentRequest(chunk=b"the first half. ")
        yield pb.ImportDocumentRequest(chunk=b"x" * 5 * MIB)

    with grpc.secure_channel(serving.address, serving.tls.credentials()) as channel:
        documents = stubs.DocumentServiceStub(channel)
        for number in range(25):  # it was stored about once in ten times
            with pytest.raises(grpc.RpcError) as refused:
                documents.ImportDocument(halves(number), timeout=60)
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as nothing:
            documents.ListDocuments(pb.ListDocumentsRequest(parent=parent), timeout=60)
        assert nothing.value.code() is grpc.StatusCode.NOT_FOUND
