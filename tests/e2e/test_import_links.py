"""Documents behind links, as Kubernetes mounts those of a ConfigMap."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]


def project(mount: Path, stamp: str, text: str) -> None:
    """Put the content into a directory of its own, and point the links there."""
    (mount / stamp).mkdir(parents=True)
    (mount / stamp / "limits.md").write_text(text)
    (mount / "..new").symlink_to(stamp)
    (mount / "..new").replace(mount / "..data")
    if not (mount / "limits.md").is_symlink():
        (mount / "limits.md").symlink_to("..data/limits.md")


def documents(command: Command, *flags: str) -> list[tuple[str, str, str]]:
    lines = command("documents", "list", "--json", *flags).stdout.splitlines()
    return [
        (each["name"].rpartition("/")[2], each["uri"], each["title"])
        for each in map(json.loads, lines)
    ]


def identity(mount: Path) -> tuple[str, str]:
    uri = f"file://{mount}/limits.md"
    return hashlib.sha256(uri.encode()).hexdigest()[:32], uri


def test_a_changed_config_map_replaces_its_document(
    command: Command, server: Any, tmp_path: Path
) -> None:
    flags = ("--collection=links", *server.flags)
    mount = tmp_path / "mount"
    for number, outcome in ((1, "1 created, 0 replaced"), (2, "0 created, 1 replaced")):
        project(mount, f"..2026_01_0{number}", f"# Version {number}\n\nLoad limits.\n")
        assert outcome in command("import", "mount", *flags).stdout
        assert documents(command, *flags) == [(*identity(mount), f"Version {number}")]


def test_every_pod_gives_its_copy_of_a_document_the_same_id(
    start: Callable[..., Any], command: Command, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    for pod in ("a", "b"):
        project(mount, f"..2026_01_01_{pod}", "# Limits\n\nLoad limits.\n")
        serving = start(f"--import={mount}", data_dir=tmp_path / pod)
        assert documents(command, *serving.flags) == [(*identity(mount), "Limits")]
        assert serving.stop() == 0
        shutil.rmtree(mount)


def test_the_import_on_start_replaces_what_has_changed(
    start: Callable[..., Any], command: Command, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    for number in (1, 2):
        project(mount, f"..2026_01_0{number}", f"# Version {number}\n\nLoad limits.\n")
        serving = start(f"--import={mount}")
        assert documents(command, *serving.flags) == [(*identity(mount), f"Version {number}")]
        assert serving.stop() == 0
