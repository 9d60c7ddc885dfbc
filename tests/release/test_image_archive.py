"""What an image archive has to be: whole, and the server of the commit."""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from releasing import contents, layers
from releasing.archive import ImageArchive
from releasing.program import Refused
from tests.release.images import SITE, START, Layer, write_archive, write_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.release.project import Project

MAIN = f"{SITE}/kotaemon_grpc/__main__.py"
CACHED = f"{SITE}/kotaemon_grpc/__pycache__/__main__.cpython-311.pyc"


def entry(path: str, kind: bytes, **more: Any) -> tarfile.TarInfo:
    """Make an entry without a content."""
    made = tarfile.TarInfo(path)
    made.type = kind
    for name, value in more.items():
        setattr(made, name, value)
    return made


def check(project: Project) -> None:
    """Hold the image against the commit."""
    wheel = project.image.with_name("ours.whl")
    server = project.root / "server"
    with zipfile.ZipFile(wheel, "w") as file:
        for path in (server / "kotaemon_grpc").rglob("*"):
            if path.is_file():
                file.write(path, path.relative_to(server))
    with ImageArchive(project.image) as image:
        contents.check(image, project.root, wheel, built_here=False)


def bytecode(source: bytes) -> bytes:
    """Compile as the image does, with a hash that is not looked at."""
    header = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(source)
    return header + marshal.dumps(compile(source, "/elsewhere.py", "exec", dont_inherit=True))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({MAIN: "import evil\n"}, "1 files of the image are not those of the commit"),
        ({f"{SITE}/kotaemon_grpc/more.py": ""}, "1 files of the image are not those"),
        ({f"{SITE}/kotaemon_grpc/.wh.__main__.py": ""}, "1 files of the image are not those"),
        ({"etc/kotaemon-grpc/config.toml": ""}, "etc/kotaemon-grpc/config.toml"),
        ({"opt/kotaemon-grpc/bin/kotaemon-grpc": "#!/bin/evil\n"}, "bin/kotaemon-grpc"),
        ({CACHED: bytecode(b"import evil\n")}, "is not the bytecode of its source"),
        ({CACHED: b"\0" * 16}, "can only be checked by the Python that it is for"),
        ({"x": entry("usr/bin/x", tarfile.REGTYPE, mode=0o4755)}, "setgid\n  usr/bin/x"),
        ({"x": entry("usr/bin/x", tarfile.REGTYPE, mode=0o2755)}, "setgid\n  usr/bin/x"),
        (
            {"x": entry("usr/bin/x", tarfile.REGTYPE, pax_headers={layers.CAPABILITY: "1"})},
            "setgid\n  usr/bin/x",
        ),
    ],
)
def test_an_image_of_other_files_is_refused(project: Project, more: Layer, said: str) -> None:
    check(project)
    write_image(project, more=more)
    with pytest.raises(Refused) as error:
        check(project)
    assert said in str(error.value)


def test_bytecode_of_the_commit_is_let_through(project: Project) -> None:
    source = (project.root / "server" / "kotaemon_grpc" / "__main__.py").read_bytes()
    write_image(project, more={CACHED: bytecode(source)})
    check(project)


@pytest.mark.parametrize(
    "start",
    [
        {"User": "0:0"},
        {"WorkingDir": "/tmp"},  # noqa: S108 - of an image
        {"Entrypoint": ["python"]},
        {"Cmd": None},
        {"Env": [*START["Env"], "LD_PRELOAD=/evil.so"]},
        {"Env": ["PATH=/tmp", *START["Env"][1:]]},
        {"Healthcheck": {"Test": ["CMD-SHELL", "evil"]}},
    ],
)
def test_an_image_that_starts_otherwise_is_refused(project: Project, start: dict[str, Any]) -> None:
    write_image(project, start=start)
    with pytest.raises(Refused, match=f"the image has {next(iter(start))} "):
        check(project)


def test_a_forged_image_makes_no_release(project: Project) -> None:
    write_image(project, more={MAIN: "import evil\n"})
    done = project.release("--unsigned", "--without-audit")
    assert done.returncode == 1
    assert f"are not those of the commit\n  {MAIN}" in done.stderr
    assert not project.dist.exists()


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ({"d": "a file over a directory"}, {"d": b"a file over a directory"}),
        ({"d": entry("d", tarfile.SYMTYPE, linkname="e")}, {}),
        ({"d": entry("d", tarfile.DIRTYPE)}, {"d/a": b"1", "d/b": b"2"}),
        ({"d/a": entry("d/a", tarfile.DIRTYPE)}, {"d/b": b"2"}),
        ({"d/a": entry("d/a", tarfile.FIFOTYPE)}, {"d/b": b"2"}),
        ({"d/.wh.a": "", "d/b": "3"}, {"d/b": b"3"}),
        ({"d/c": "3", "d/.wh..wh..opq": ""}, {"d/c": b"3"}),
    ],
)
def test_a_later_layer_replaces_what_it_covers(
    tmp_path: Path, upper: Layer, left: dict[str, bytes]
) -> None:
    write_archive(tmp_path / "image.tar", START, [{"d/a": "1", "d/b": "2"}, upper])
    with ImageArchive(tmp_path / "image.tar") as image:
        assert image.files(lambda _: True) == left


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"d": entry("d", tarfile.SYMTYPE, linkname="e"), "d/a": ""}, "through the link d: d/a"),
        ({"../a": ""}, "leaves its root"),
        ({"a": entry("a", tarfile.LNKTYPE, linkname="b")}, "is damaged"),
    ],
)
def test_a_layer_that_does_not_say_where_it_writes(tmp_path: Path, layer: Layer, said: str) -> None:
    write_archive(tmp_path / "image.tar", START, [layer])
    with ImageArchive(tmp_path / "image.tar") as image, pytest.raises(Refused, match=said):
        image.files(lambda _: True)


def test_a_layer_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MAX_BYTES", 1 << 20)
    write_archive(tmp_path / "image.tar", START, [{"a": bytes(1 << 20)}])
    with ImageArchive(tmp_path / "image.tar") as image, pytest.raises(Refused, match="has more"):
        image.files(lambda _: False)


def without_index(archive: bytes) -> bytes:
    return archive.replace(b"index.json", b"index.jso_")


def with_another_size(archive: bytes) -> bytes:
    return changed_index(archive, lambda image: image.update(size=image["size"] + 1))


def without_a_digest(archive: bytes) -> bytes:
    return changed_index(archive, lambda image: image.pop("digest"))


def without_a_blob(archive: bytes) -> bytes:
    return changed_index(archive, lambda image: image.update(digest=f"sha256:{'0' * 64}"))


def changed_index(archive: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Change what the index says of the image."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        tarfile.open(fileobj=buffer, mode="w") as new,
    ):
        for member in old:
            content = old.extractfile(member).read()
            if member.name == "index.json":
                index = json.loads(content)
                change(index["manifests"][0])
                content = json.dumps(index).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:2600], "is damaged|is no OCI archive"),
        (lambda _: tarfile.NUL * 10240, "is no OCI archive"),
        (without_index, "is damaged|is no OCI archive"),
        (with_another_size, "is not what it should be"),
        (without_a_digest, "is damaged: KeyError"),
        (without_a_blob, "is missing"),
    ],
)
def test_a_damaged_archive_is_refused_in_words(
    tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    path = tmp_path / "image.tar"
    write_archive(path, START, [{"a": "1"}])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Refused, match=said):
        ImageArchive(path)


@pytest.mark.parametrize("layer", [b"no archive", b"\x28\xb5\x2f\xfd" + bytes(2000)])
def test_a_layer_that_is_no_archive(tmp_path: Path, layer: bytes) -> None:
    write_archive(tmp_path / "image.tar", START, [layer])
    with ImageArchive(tmp_path / "image.tar") as image, pytest.raises(Refused, match="is damaged"):
        image.files(lambda _: True)
