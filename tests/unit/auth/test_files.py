"""Files that may be anything, and sources that do not answer."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from pathlib import Path

import pytest

from kotaemon_grpc.auth import files
from kotaemon_grpc.auth.api_keys import ApiKeyVerifier
from kotaemon_grpc.auth.fetch import get
from kotaemon_grpc.auth.jwks import KeySet
from kotaemon_grpc.auth.key_file import KeyFile
from kotaemon_grpc.auth.reload import Reloaded, SourceError, nobody
from kotaemon_grpc.core.errors import OperatorError

NOT_REGULAR = "it is not a regular file"


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A pipe that nobody writes to, and a link to it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    return tmp_path / "link"


@pytest.mark.parametrize("size", [0, 9, 10])
def test_a_file_within_its_bound_is_read(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert files.read(tmp_path / "file", 10) == bytes(size)


def test_a_larger_file_is_refused_and_takes_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SourceError, match=r"^it is larger than 10 bytes$"):
        files.read(tmp_path / "file", 10)
    with pytest.raises(SourceError, match=r"^it is larger than 1048576 bytes$"):
        files.read(tmp_path / "file")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_file_whose_size_is_not_told_is_bounded_too() -> None:
    # Files of /proc are regular and have the size 0.
    with pytest.raises(SourceError, match="larger than 4 bytes"):
        files.read(Path("/proc/self/status"), 4)


def test_what_is_no_regular_file_is_not_waited_for(pipe: Path, tmp_path: Path) -> None:
    for path in (pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(SourceError, match=NOT_REGULAR):
            files.read(path)
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none")


async def test_keys_are_not_waited_for(pipe: Path) -> None:
    for source in (KeySet(str(pipe)), ApiKeyVerifier(pipe)):
        with pytest.raises(OperatorError, match=NOT_REGULAR):
            await source.load()
    with pytest.raises(OperatorError, match=NOT_REGULAR):
        KeyFile(pipe).read()


def test_the_cas_of_a_web_server_are_not_waited_for_and_never_none(
    pipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=f"its CA file cannot be used: {NOT_REGULAR}"):
        get("https://127.0.0.1:1/keys", 1, pipe)
    (tmp_path / "empty").touch()
    with pytest.raises(SourceError, match="it is empty"):
        get("https://127.0.0.1:1/keys", 1, tmp_path / "empty")


class Hanging:
    """A source that answers when the test lets it."""

    name = "hanging"
    required = True
    interval_s = 0.0

    def __init__(self) -> None:
        self.reads = 0
        self.answer = threading.Event()

    def read(self) -> int:
        self.reads += 1
        self.answer.wait()
        return self.reads


async def test_a_source_that_hangs_has_failed_and_holds_one_thread() -> None:
    hanging = Hanging()
    told: asyncio.Queue[bool] = asyncio.Queue()
    value = Reloaded(hanging, int, 0, on_reload=told.put_nowait, on_change=nobody, limit_s=0.01)
    problems = []
    try:
        for _ in range(3):
            with pytest.raises(OperatorError) as caught:
                await value.load()
            problems.append((str(caught.value), told.get_nowait()))
    finally:
        hanging.answer.set()  # else the loop waits for its threads
    assert hanging.reads == 1
    assert (
        problems
        == [("hanging cannot be used: it takes too long; mend it or name another", False)] * 3
    )
    following = asyncio.create_task(value.refresh_forever())
    while not await told.get():
        pass
    assert (value.problem, value.value > 0) == ("", True)
    following.cancel()
