"""Other programs that a release needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOLD_LINES = 8  # of what a program says when it fails


class Refused(Exception):
    """The release is not made; the text says why."""


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    shown: bool = False,
) -> str:
    """Run a program to its end, and give what it wrote.

    Args:
        command: the program and its arguments.
        cwd: where it runs.
        env: what its environment has beside ours.
        shown: its errors go to the terminal as they come, for what takes long.

    Raises:
        Refused: it is missing, or it failed; the text is the end of what it said.
    """
    name = os.path.basename(command[0])  # noqa: PTH119 - a name or a path
    try:
        done = subprocess.run(
            [str(each) for each in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise Refused(f"{name} is missing") from error
    if done.returncode and shown:
        raise Refused(f"{name} failed; what it wrote is above")
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-TOLD_LINES:]
        raise Refused(f"{name} failed: " + "\n  ".join(said))
    return done.stdout


def need(name: str, what_for: str) -> None:
    """Refuse early when a program is missing.

    Raises:
        Refused: it is.
    """
    if shutil.which(name) is None:
        raise Refused(f"{name} is missing, which {what_for} needs")
