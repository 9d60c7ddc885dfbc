"""The directory that has a whole release, or none."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from releasing.program import Refused

SUMS = "SHA256SUMS"


def refuse_foreign(target: Path) -> None:
    """See that a directory may be replaced.

    Raises:
        Refused: something else than a release is in it.
    """
    if target.exists() and not (target.is_dir() and (target / SUMS).exists()):
        if target.is_dir() and not any(target.iterdir()):
            return
        raise Refused(f"{target} is in the way: it is no release that could be replaced")


def write_sums(directory: Path) -> Path:
    """Write the sums of all files, as `sha256sum --check` reads them."""
    lines = []
    for path in sorted(directory.iterdir()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    sums = directory / SUMS
    sums.write_text("".join(lines))
    return sums


def publish(made: Path, target: Path) -> None:
    """Put a whole release where an older one may be, by a rename."""
    beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        shutil.copytree(made, beside / "new")
        if target.exists():
            target.rename(beside / "old")
        (beside / "new").rename(target)
    finally:
        shutil.rmtree(beside)
