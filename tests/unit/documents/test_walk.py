from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from kotaemon_grpc.documents.walk import FoundFile, Unreadable, find_documents

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_tree_is_walked_in_order_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "c.pdf", ".hidden.md", "sub/d.md", ".git/e.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text")
    found = list(find_documents([tmp_path]))
    assert found == [
        FoundFile(tmp_path / "a.txt", tmp_path, "text/plain", 4),
        FoundFile(tmp_path / "b.md", tmp_path, "text/markdown", 4),
        FoundFile(tmp_path / "sub" / "d.md", tmp_path, "text/markdown", 4),
    ]


def project(directory: Path, stamp: str, text: str) -> None:
    """Put a file where Kubernetes puts that of a ConfigMap, and point the links to it."""
    (directory / stamp).mkdir(parents=True)
    (directory / stamp / "limits.md").write_text(text)
    (directory / "..new").symlink_to(stamp)
    (directory / "..new").replace(directory / "..data")
    link = directory / "limits.md"
    if not link.is_symlink():
        link.symlink_to("..data/limits.md")


def test_a_file_behind_links_has_the_uri_of_its_own_name(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for stamp in ("..2026_01_01", "..2026_01_02"):
        project(mount, stamp, stamp)
        (found,) = find_documents([mount])
        assert isinstance(found, FoundFile)
        assert found.path.read_text() == stamp
        assert found.uri == f"file://{mount}/limits.md"


def test_a_uri_is_absolute_and_follows_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "releases" / "1").mkdir(parents=True)
    (tmp_path / "releases" / "1" / "a b.md").write_text("a")
    (tmp_path / "current").symlink_to("releases/1")
    monkeypatch.chdir(tmp_path / "releases")
    for given in ("../current", "../current/a b.md", "1/../../current/"):
        (found,) = find_documents([given])
        assert isinstance(found, FoundFile)
        assert found.uri == f"file://{tmp_path}/current/a%20b.md"


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text("a")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    found = list(find_documents([tmp_path]))
    assert [type(f) for f in found] == [FoundFile, Unreadable]
    assert found[1].path == tmp_path / "self.md"


def test_what_cannot_be_read_is_reported_and_the_walk_goes_on(tmp_path: Path) -> None:
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "z.md").write_text("z")
    os.mkfifo(tmp_path / "pipe.txt")
    found = list(find_documents([tmp_path / "missing.md", "nul\0byte.md", tmp_path]))
    assert [type(f) for f in found] == [Unreadable, Unreadable, Unreadable, FoundFile, Unreadable]
    reasons = [f.reason for f in found if isinstance(f, Unreadable)]
    assert reasons[0] == reasons[3] == "no such file or directory"
    assert reasons[2] == "not a regular file"


def test_a_file_that_vanishes_during_the_walk_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")
    (tmp_path / "b.md").write_text("b")
    walk = find_documents([tmp_path])
    assert isinstance(next(walk), FoundFile)
    (tmp_path / "b.md").unlink()
    assert isinstance(next(walk), Unreadable)


def test_a_named_file_of_another_kind_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("a")
    (found,) = find_documents([tmp_path / "a.pdf"])
    assert isinstance(found, Unreadable)
    assert ".md" in found.reason


def test_the_walk_loads_nothing_heavy() -> None:
    code = (
        "import sys, kotaemon_grpc.documents.walk as w;"
        "sys.exit(any(m in sys.modules for m in ('markdown_it', 'Stemmer', 'grpc')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_is_reached_twice_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("b")
    (tmp_path / "a.txt").symlink_to(tmp_path / "b.md")
    found = list(find_documents([tmp_path, tmp_path / "a.txt"]))
    assert [item.path.name for item in found] == ["b.md"]  # under its own name, as its own kind
