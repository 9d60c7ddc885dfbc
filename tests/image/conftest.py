"""The image under test: `make image-test` builds it and says in build/image.json what it is."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.image.engine import SHUT_IN, Engine

from kotaemon_grpc.transport import pki

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.image.engine import Container

BUILT = Path(__file__).parents[2] / "build" / "image.json"


def pytest_configure() -> None:
    """Say what is missing at once, and not once for each test."""
    if not BUILT.exists():
        raise pytest.UsageError('the image is not built; run "make image-test", which builds it')
    if shutil.which(runner(described())) is None:
        raise pytest.UsageError("buildah only builds; install podman to run the image")


def described() -> dict[str, Any]:
    """Return what `scripts/image` said of the image."""
    return json.loads(BUILT.read_text().splitlines()[-1])


def runner(built: dict[str, Any]) -> str:
    """Choose what runs the image: buildah does not, and shares its images with podman."""
    return "podman" if built["tool"] == "buildah" else built["tool"]


@pytest.fixture(scope="session")
def built() -> dict[str, Any]:
    """What `scripts/image` said of the image."""
    return described()


@pytest.fixture(scope="session")
def engine(built: dict[str, Any]) -> Iterator[Engine]:
    """What runs the image, which is named by its id: a later build is another one."""
    engine = Engine(runner(built), built["id"])
    yield engine
    engine.remove_all()


@pytest.fixture(scope="session")
def files(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tarfile.TarFile]:
    """All files of the image."""
    archive = tmp_path_factory.mktemp("image") / "files.tar"
    engine.export(archive)
    with tarfile.open(archive) as opened:
        yield opened


@pytest.fixture(scope="session")
def members(files: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """The files of the image by path, without what the engine itself puts there."""
    put = ("dev", "proc", "sys", "run", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab")
    found = {member.name.removeprefix("./").rstrip("/"): member for member in files.getmembers()}
    return {
        path: member
        for path, member in found.items()
        if path not in put and not path.startswith(tuple(f"{each}/" for each in put))
    }


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Certificates where the image expects them, such that the user of the container reads them."""
    made = tmp_path_factory.mktemp("pki")
    pki.ensure(made)
    # Those above it are of the one who runs the tests, and closed to others; a mount is not.
    shown = tmp_path_factory.mktemp("tls")
    for name, target in (("ca", "ca.crt"), ("server", "tls.crt"), ("server-key", "tls.key")):
        (shown / target).write_bytes((made / f"{name}.pem").read_bytes())
        (shown / target).chmod(0o444)
    shown.chmod(0o755)
    return [f"--volume={shown}:/etc/kotaemon-grpc-files/tls:ro"]


@pytest.fixture
def start(engine: Engine, mounts: list[str]) -> Iterator[Callable[..., Container]]:
    """Start a shut-in container of the test's own; further options come last."""
    yield lambda *options: engine.start(*SHUT_IN, *mounts, *options)
    engine.remove_all()


@pytest.fixture(scope="module")
def serving(engine: Engine, mounts: list[str]) -> Iterator[Container]:
    """A shut-in container that serves, for tests that only look."""
    container = Engine(engine.tool, engine.image).start(*SHUT_IN, *mounts)
    container.wait_until_serving()
    yield container
    container.engine.remove_all()
