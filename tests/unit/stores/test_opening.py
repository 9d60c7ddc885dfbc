from __future__ import annotations

import os
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.errors import OperatorError
from kotaemon_grpc.stores.sqlite.schema import MIGRATIONS, migrate
from kotaemon_grpc.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def refusal(data_dir: Path) -> str:
    with pytest.raises(OperatorError) as caught:
        SqliteStore.open(data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_second_server_is_refused_and_told_of_the_first(
    data_dir: Path, open_store: Callable[[], SqliteStore]
) -> None:
    open_store()
    assert refusal(data_dir) == (
        f'data directory "{data_dir}" is used by another server (pid {os.getpid()}); '
        "stop it or choose another --data-dir"
    )
    open_store()


def test_a_database_of_a_newer_version_is_refused(
    data_dir: Path, open_store: Callable[[], SqliteStore]
) -> None:
    open_store().close()
    connection = sqlite3.connect(data_dir / "kotaemon.sqlite3")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    message = refusal(data_dir)
    assert "version 99" in message
    assert f"up to {len(MIGRATIONS)}" in message


def test_a_path_that_is_a_file_or_lies_below_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        assert "is not a directory; choose another --data-dir" in refusal(path)


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"SQLite format 3\0" + b"x" * 9000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(
    data_dir: Path, content: bytes
) -> None:
    data_dir.mkdir()
    database = data_dir / "kotaemon.sqlite3"
    database.write_bytes(content)
    assert "restore it from a backup or move it away" in refusal(data_dir)
    assert database.read_bytes() == content


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system with the options given."""
    place = tmp_path / "mounted"
    place.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"needs leave to mount a file system: {result.stderr.strip()}")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607 - found on PATH


def test_a_read_only_directory_is_refused(mounted: Callable[[str], Path]) -> None:
    place = mounted("ro,size=1m")
    assert "cannot be written (read-only file system)" in refusal(place)
    assert "cannot be written (read-only file system)" in refusal(place / "new")


def test_a_full_disk_is_refused(mounted: Callable[[str], Path]) -> None:
    place = mounted("size=64k")
    (place / "filler").write_bytes(b"x" * 56 * 1024)
    assert "is full; make room" in refusal(place / "data")


def test_the_spool_is_emptied(data_dir: Path, open_store: Callable[[], SqliteStore]) -> None:
    spool = open_store().spool_dir
    assert spool == data_dir / "tmp"
    (spool / "left").write_text("over")
    (spool / "folder").mkdir()
    assert list(open_store().spool_dir.iterdir()) == []


def test_the_page_token_key_outlives_the_process(open_store: Callable[[], SqliteStore]) -> None:
    key = open_store().page_token_key
    assert len(key) == 32
    assert open_store().page_token_key == key


def test_migrations_run_once_in_order_and_keep_what_is_there() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    first = "CREATE TABLE t (a); INSERT INTO t VALUES (1)"
    second = "ALTER TABLE t ADD COLUMN b DEFAULT 2"
    migrate(connection, [first])
    for _ in range(2):
        migrate(connection, [first, second])
    assert connection.execute("SELECT * FROM t").fetchall() == [(1, 2)]
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()


def test_a_migration_that_fails_leaves_nothing_behind() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, ["CREATE TABLE t (a)", "CREATE TABLE u (a); CREATE TABLE t (a)"])
    tables: list[Any] = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    assert tables == [("t",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()
