"""What an image holds of ours, held against the files of the commit."""

from __future__ import annotations

import importlib.util
import json
import marshal
import posixpath
import re
import shlex
import zipfile
from typing import TYPE_CHECKING, Any

from releasing.program import TOLD_LINES, Refused

if TYPE_CHECKING:
    from pathlib import Path
    from types import CodeType

    from releasing.archive import ImageArchive

HOME = "opt/kotaemon-grpc"
COMMAND = f"{HOME}/bin/kotaemon-grpc"
CONFIG = "etc/kotaemon-grpc/config.toml"
PACKAGE = "kotaemon_grpc/"
SITE = re.compile(rf"{HOME}/lib/python3\.\d+/site-packages/")
HEADER_BYTES = 16  # PEP 552: the magic number, flags, and what tells that a source is another
# What pip, as Debian's Python brings it, makes of the entry point.
START = rf"""#!/{HOME}/bin/python
# -*- coding: utf-8 -*-
import re
import sys
from kotaemon_grpc.__main__ import main
if __name__ == '__main__':
    sys.argv[0] = re.sub(r'(-script\.pyw|\.exe)?$', '', sys.argv[0])
    sys.exit(main())
""".encode()


def check(image: ImageArchive, tree: Path, wheel: Path, *, built_here: bool) -> None:
    """See that the image runs the server of the commit, in the way of the commit's Dockerfile.

    Args:
        image: the image.
        tree: the files of the commit.
        wheel: that of the commit.
        built_here: it was built of these files just now, so that bytecode is let through which
            only another Python can compare.

    Raises:
        Refused: it does not, or it has files that give others' rights to who runs them.
    """
    refuse_another_start(image.config["config"], (tree / "Dockerfile").read_text())
    if privileged := image.privileged():
        raise Refused(f"the image has files that are setuid or setgid{told(privileged)}")
    found = image.files(
        lambda path: path in {COMMAND, CONFIG} or f"site-packages/{PACKAGE}" in path
    )
    config = (tree / "scripts" / "image.toml").read_bytes()
    expected = {COMMAND: START, CONFIG: config, **installed(wheel, site_of(found))}
    bytecode = {path for path in found if is_bytecode(path)}
    if another := sorted(
        path for path in (found.keys() - bytecode) | expected.keys()
        if found.get(path) != expected.get(path)
    ):  # fmt: skip
        raise Refused(
            f"{len(another)} files of the image are not those of the commit{told(another)}"
        )
    for path in sorted(bytecode):
        refuse_another_bytecode(path, found[path], expected, built_here=built_here)


def site_of(found: dict[str, bytes]) -> str:
    """Give the directory that has our package.

    Raises:
        Refused: there is none, or several.
    """
    sites = {path.partition(PACKAGE)[0] for path in found if PACKAGE in path}
    if len(sites) != 1 or not SITE.fullmatch(site := sites.pop()):
        raise Refused(f"the image has the server not in {HOME}, or in several places")
    return site


def installed(wheel: Path, site: str) -> dict[str, bytes]:
    """Read what a wheel installs of our package."""
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if name.startswith(PACKAGE)]
        return {site + name: file.read(name) for name in names}


def is_bytecode(path: str) -> bool:
    """Say whether a file is one that Python makes of a source."""
    return path.endswith(".pyc") and posixpath.basename(posixpath.dirname(path)) == "__pycache__"


def refuse_another_bytecode(
    path: str, content: bytes, expected: dict[str, bytes], *, built_here: bool
) -> None:
    """See that bytecode, which Python runs unlooked-at, is that of its source.

    Raises:
        Refused: it is not, or our Python is another than the image's and cannot tell.
    """
    folder, name = posixpath.split(path)
    source = posixpath.join(posixpath.dirname(folder), f"{name.partition('.')[0]}.py")
    if content[:4] != importlib.util.MAGIC_NUMBER:
        if built_here:
            return
        raise Refused(f"{path} of the image can only be checked by the Python that it is for")
    try:
        there = marshal.loads(content[HEADER_BYTES:])  # noqa: S302 - read, and never run
    except (ValueError, EOFError, TypeError) as error:
        raise Refused(f"{path} of the image is damaged") from error
    if source not in expected or code_of(there) != code_of(
        compile(expected[source], source, "exec", dont_inherit=True)
    ):
        raise Refused(f"{path} of the image is not the bytecode of its source")


def code_of(code: CodeType) -> CodeType:
    """Leave out what only tracebacks show: Python's patches change the columns of lines."""
    consts = tuple(code_of(each) if hasattr(each, "co_code") else each for each in code.co_consts)
    return code.replace(co_filename="", co_linetable=b"", co_consts=consts)


def refuse_another_start(config: dict[str, Any], dockerfile: str) -> None:
    """See that the image starts what the Dockerfile says, as that user and in that environment.

    Raises:
        Refused: it does not.
    """
    expected = last_stage(dockerfile)
    probe = expected.pop("Healthcheck")
    for key, value in expected.items():
        found = config.get(key) or []
        if (sorted(found) if key == "Env" else found) != value:
            raise Refused(f"the image has {key} {found}, where the Dockerfile has {value}")
    # The format of OCI knows of none; docker's has it.
    if (found := (config.get("Healthcheck") or {}).get("Test")) not in (None, probe):
        raise Refused(f"the image has Healthcheck {found}, where the Dockerfile has {probe}")


def last_stage(dockerfile: str) -> dict[str, Any]:
    """Read from a Dockerfile how its image starts, as the image's configuration has it."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines)).rpartition("\nFROM ")[2]
    said = dict(
        re.findall(r"^(ENV|USER|WORKDIR|ENTRYPOINT|CMD|HEALTHCHECK) +(.+)$", text, re.MULTILINE)
    )
    return {
        "User": said["USER"],
        "WorkingDir": said["WORKDIR"],
        "Entrypoint": json.loads(said["ENTRYPOINT"]),
        "Cmd": json.loads(said["CMD"]),
        "Env": sorted(shlex.split(said["ENV"])),
        "Healthcheck": ["CMD", *json.loads(said["HEALTHCHECK"].partition("CMD ")[2])],
    }


def told(paths: list[str]) -> str:
    """List some paths for an error."""
    return "".join(f"\n  {path}" for path in paths[:TOLD_LINES])
