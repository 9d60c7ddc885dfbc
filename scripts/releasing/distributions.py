"""The wheel and the source distribution."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from releasing.program import Refused, run

if TYPE_CHECKING:
    from pathlib import Path


def build(tree: Path, target: Path, epoch_s: int) -> Path:
    """Build both of an exported tree with the builder of our own environment; gives the wheel.

    Args:
        tree: the files of a commit.
        target: the directory to write them to.
        epoch_s: their time, in seconds since 1970.
    """
    run(
        sys.executable, "-m", "hatchling", "build", f"--directory={target}",
        cwd=tree, env={"SOURCE_DATE_EPOCH": str(epoch_s)},
    )  # fmt: skip
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        raise Refused(f"{len(wheels)} wheels were built, where one is expected")
    return wheels[0]
