"""Files that belong together, and what is made of them while they are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.auth.watched_files import WatchedFiles
from kotaemon_grpc.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class Pair:
    """Two files that are good if they say the same."""

    def __init__(self, directory: Path, naps: Any) -> None:
        self.one, self.other = directory / "one", directory / "other"
        self.told: list[str] = []
        self.reads = 0
        self.is_open = True
        self._naps = naps
        self.write("a", "a")
        self.files = WatchedFiles(
            [self.one, self.other],
            self.load,
            on_reload=lambda ok: self.told.append(self.files.problem or str(ok)),
            on_change=lambda: self.told.append(f"now {self.files.value}"),
            sleep=naps,
        )

    def load(self) -> str:
        self.reads += 1
        try:
            found = [path.read_text() for path in (self.one, self.other)]
        except OSError:
            raise OperatorError("one is gone") from None
        if found[0] != found[1]:
            raise OperatorError("they do not match")
        if not self.is_open:
            raise OperatorError("it is too early")
        return found[0]

    def write(self, *texts: str) -> None:
        for path, text in zip((self.one, self.other), texts, strict=False):
            new = path.with_suffix(".new")
            new.write_text(text)
            new.replace(path)

    async def look(self, times: int = 1) -> float:
        """Let it look at the files, and return how long it then rests."""
        rest_s = 0.0
        for _ in range(times):
            self._naps.end()
            rest_s = await self._naps.begun()
        return rest_s


@pytest.fixture
async def pair(tmp_path: Path, naps: Any) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path, naps)
    following = asyncio.create_task(pair.files.refresh_forever())
    assert await naps.begun() == 2
    yield pair
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_files_that_stay_are_read_once(pair: Pair) -> None:
    await pair.look(3)
    assert (pair.files.value, pair.reads, pair.told) == ("a", 1, [])


async def test_files_that_are_replaced_are_read_again(pair: Pair) -> None:
    pair.write("b", "b")
    await pair.look(3)
    assert (pair.files.value, pair.reads, pair.told) == ("b", 2, ["True", "now b"])


async def test_who_replaces_one_after_the_other_is_waited_for(pair: Pair) -> None:
    pair.write("b")
    assert await pair.look() == 1
    assert (pair.files.value, pair.told) == ("a", [])
    pair.write("b", "b")
    await pair.look()
    assert (pair.files.value, pair.told) == ("b", ["True", "now b"])


async def test_what_is_no_good_is_told_and_changes_nothing(pair: Pair) -> None:
    pair.write("b")
    await pair.look(3)
    assert pair.files.value == "a"
    assert pair.told == ["they do not match"] * 2
    pair.one.unlink()
    await pair.look()
    assert (pair.files.value, pair.told[2:]) == ("a", ["one is gone"])
    pair.write("c", "c")
    await pair.look()
    assert (pair.files.value, pair.files.problem) == ("c", "")
    assert pair.told[3:] == ["True", "now c"]


async def test_what_becomes_good_by_itself_is_taken(pair: Pair) -> None:
    pair.is_open = False
    pair.write("b", "b")
    await pair.look(2)
    assert pair.told == ["it is too early"]
    pair.is_open = True  # as a certificate that is not valid yet
    await pair.look()
    assert pair.files.value == "b"


@pytest.mark.parametrize("links", ["the directory", "the files"])
async def test_links_that_come_to_point_elsewhere_are_followed(
    tmp_path: Path, naps: Any, links: str
) -> None:
    for version in ("a", "b"):
        (tmp_path / version).mkdir()
        for name in ("one", "other"):
            (tmp_path / version / name).write_text(version)
            same = (1, 1)  # times tell nothing
            os.utime(tmp_path / version / name, same)
    data = tmp_path / "..data"
    data.symlink_to("a")
    directory = data
    if links == "the files":
        directory = tmp_path / "mounted"
        directory.mkdir()
        for name in ("one", "other"):
            (directory / name).symlink_to(data / name)
    files = WatchedFiles(
        [directory / "one", directory / "other"],
        lambda: (directory / "one").read_text() + (directory / "other").read_text(),
        sleep=naps,
    )
    following = asyncio.create_task(files.refresh_forever())
    await naps.begun()
    new = tmp_path / "..data_tmp"
    new.symlink_to("b")
    new.replace(data)
    naps.end()
    await naps.begun()
    assert files.value == "bb"
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def test_the_first_time_what_is_wrong_is_raised(tmp_path: Path) -> None:
    def load() -> Callable[[], str]:
        raise OperatorError("it is no good")

    with pytest.raises(OperatorError, match=r"^it is no good$"):
        WatchedFiles([tmp_path], load)
