"""What the image is made of, and what it is not."""

from __future__ import annotations

import re
import stat
from email.parser import Parser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tarfile

    from tests.image.engine import Engine

TOP = Path(__file__).parents[2]
MAX_COMPRESSED_BYTES = 150_000_000
SITE_PACKAGES = "opt/kotaemon-grpc/lib/python3.11/site-packages"
UNCHECKED_HASH = 0b01  # PEP 552: by hash, and without looking at the source
OWN = 10001


def text_of(files: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    return files.extractfile(member).read().decode()


def test_it_is_small(built: dict[str, Any]) -> None:
    print(f"compressed: {built['compressed_bytes'] / 1e6:.1f} MB")  # noqa: T201 - a figure to quote
    assert built["compressed_bytes"] <= MAX_COMPRESSED_BYTES


def test_python_and_the_server_are_all_that_can_be_run(
    files: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> None:
    in_path = {path for path in members if re.search(r"(^|/)s?bin/[^/]+$", path)}
    assert {path for path in in_path if members[path].isfile()} == {
        "usr/bin/python3.11",
        "opt/kotaemon-grpc/bin/kotaemon-grpc",
    }
    machine_code = {
        path
        for path, member in members.items()
        if member.isfile() and files.extractfile(member).read(4) == b"\x7fELF"
    }
    assert {path for path in machine_code if not re.search(r"\.so(\.|$)", path)} == {
        "usr/bin/python3.11"
    }


def test_python_cannot_install_anything(members: dict[str, tarfile.TarInfo]) -> None:
    modules = {
        PurePosixPath(path).name
        for path in members
        if re.fullmatch(rf"(usr/lib/python3.11|{SITE_PACKAGES})/[^/]+", path)
    }
    assert {"asyncio", "grpc"} <= modules
    assert not modules & {"pip", "ensurepip", "setuptools", "distutils"}


def test_nothing_gives_rights_away(members: dict[str, tarfile.TarInfo]) -> None:
    raised = stat.S_ISUID | stat.S_ISGID
    files = {path: member for path, member in members.items() if not member.issym()}
    assert [path for path, each in files.items() if each.isfile() and each.mode & raised] == []
    assert [path for path, each in files.items() if each.mode & stat.S_IWOTH] == ["tmp"]
    assert files["tmp"].mode & stat.S_ISVTX
    of_the_server = [path for path, each in files.items() if OWN in (each.uid, each.gid)]
    assert of_the_server == ["var/lib/kotaemon-grpc"]


def test_the_python_packages_are_those_of_the_lock(
    files: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> None:
    metadata = [
        Parser().parsestr(text_of(files, member))
        for path, member in members.items()
        if path.endswith(".dist-info/METADATA")
    ]
    installed = {each["Name"].lower().replace("_", "-"): each["Version"] for each in metadata}
    lock = (TOP / "requirements" / "image.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))
    assert installed.pop("kotaemon-grpc")
    assert installed == locked


def test_scanners_find_the_debian_package_of_every_library(
    files: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> None:
    database = "var/lib/dpkg/status.d/"
    records = {path for path in members if path.startswith(database)}
    packages = {path for path in records if not path.endswith(".md5sums")}
    for path in packages:
        fields = Parser().parsestr(text_of(files, members[path]))
        assert path == database + fields["Package"]
        assert fields["Version"]
        assert fields["Architecture"]
    assert records - packages == {f"{path}.md5sums" for path in packages}
    listed = {
        # Debian has moved /lib into /usr, and its packages have not all followed.
        re.sub(r"^(lib|lib64|bin)/", r"usr/\1/", line.split(maxsplit=1)[1])
        for path in records - packages
        for line in text_of(files, members[path]).splitlines()
    }
    libraries = {
        path
        for path, member in members.items()
        if path.startswith("usr/") and member.isfile() and re.search(r"\.so(\.|$)", path)
    }
    assert libraries
    assert libraries <= listed
    assert "ID=debian" in text_of(files, members["usr/lib/os-release"])


def test_all_python_code_is_compiled_whatever_its_time_stamps(
    files: tarfile.TarFile, members: dict[str, tarfile.TarInfo]
) -> None:
    roots = ("usr/lib/python3.11/", f"{SITE_PACKAGES}/")
    sources = [path for path in members if path.startswith(roots) and path.endswith(".py")]
    assert len(sources) > 1000
    for path in sources:
        source = PurePosixPath(path)
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
        head = files.extractfile(members[str(compiled)]).read(8)
        assert int.from_bytes(head[4:], "little") == UNCHECKED_HASH, path


def test_it_runs_the_server_as_a_user_with_a_number(engine: Engine) -> None:
    config = engine.describe()
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["kotaemon-grpc"]
    assert config["Cmd"] == ["serve", "--config", "/etc/kotaemon-grpc/config.toml"]
    assert config["WorkingDir"] == "/var/lib/kotaemon-grpc"
    assert set(config["ExposedPorts"]) == {"50051/tcp", "50052/tcp", "9464/tcp"}
    assert config.get("StopSignal") == "SIGTERM"


def test_its_labels_say_what_it_is(engine: Engine) -> None:
    project = (TOP / "pyproject.toml").read_text()
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]
    prefix = "org.opencontainers.image."
    labels = {
        key.removeprefix(prefix): value
        for key, value in engine.describe()["Labels"].items()
        if key.startswith(prefix)
    }
    assert labels["title"] == "kotaemon-grpc"
    assert labels["version"] == version
    assert labels["licenses"] == "Apache-2.0"
    assert labels["description"]
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", labels["revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])
