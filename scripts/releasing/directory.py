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
        Refused: something else than a release is in it, or beside one.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or target.is_symlink():
        raise Refused(f"{target} is in the way: it is no release that could be replaced")
    there = {each.name for each in target.iterdir()}
    sums = target / SUMS
    listed = {SUMS, f"{SUMS}.asc"} if sums.is_file() else set()
    if listed:
        lines = sums.read_text(errors="replace").splitlines()
        listed |= {line.partition("  ")[2] for line in lines}
    if foreign := sorted(there - listed):
        raise Refused(
            f"{target} is in the way: it is no release that could be replaced, "
            f"for {SUMS} does not list {foreign[0]}"
        )


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
    """Put a whole release where an older one may be, by a rename.

    Raises:
        Refused: it cannot be put there; the older one is where it was.
    """
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        old = beside / "old"
        try:
            shutil.copytree(made, beside / "new")
            if target.exists():
                target.rename(old)
            (beside / "new").rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            shutil.rmtree(beside)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from error
