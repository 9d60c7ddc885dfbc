"""A project to release, with a throw-away key, a registry and a database of vulnerabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.release.images import write_image
from tests.release.project import ROOT, Key, Project

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The parts of the script are imported by some tests.
sys.path.insert(0, str(ROOT / "scripts"))

REGISTRY = """
version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: {directory}}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "127.0.0.1:0"}}
"""


def pytest_configure() -> None:
    """Say what is missing at once, and not once for each test."""
    needed = {
        "git": "git",
        "gpg": "gnupg",
        "skopeo": "skopeo",
        "docker-registry": "docker-registry",
    }
    if missing := [package for name, package in needed.items() if shutil.which(name) is None]:
        raise pytest.UsageError(f'missing; run "apt-get install {" ".join(missing)}"')


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where `scripts/chart-tools` puts Helm."""
    done = subprocess.run(
        [ROOT / "scripts" / "chart-tools"], stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Put the files of this tree, as they are now, into a repository of one commit."""
    root = tmp_path_factory.mktemp("origin")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    project = Project(root)
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit()
    return project


@pytest.fixture
def project(origin: Project, tmp_path: Path) -> Project:
    """A clone that a test may change, with an image of its commit."""
    origin.git("clone", "--quiet", str(origin.root), str(tmp_path / "project"))
    project = Project(tmp_path / "project")
    write_image(project)
    return project


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Key]]:
    """Make a key: `make_key("rsa2048", "passphrase")`."""
    made: list[Key] = []

    def make(kind: str, passphrase: str = "") -> Key:
        made.append(Key.make(tmp_path_factory.mktemp("gpg", numbered=True), kind, passphrase))
        return made[-1]

    yield make
    for key in made:
        key.close()


@pytest.fixture(scope="session")
def key(make_key: Callable[..., Key]) -> Key:
    """A key of the kind that Helm 3 knows, with a passphrase."""
    return make_key("rsa2048", "open sesame")


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start a registry and give its address: `start_registry(readonly=True)`."""
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def start(*, readonly: bool = False) -> str:
        directory = tmp_path / f"registry-{len(started)}"
        directory.mkdir()
        settings = directory.with_suffix(".yml")
        settings.write_text(
            REGISTRY.format(directory=directory, readonly=json.dumps(readonly)), encoding="utf-8"
        )
        process = subprocess.Popen(
            ["docker-registry", "serve", settings],  # noqa: S607 - found on PATH
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
        addresses = (
            line.partition("listening on ")[2].split('"')[0]
            for line in process.stderr
            if "listening on " in line
        )
        address = next(addresses, "")
        # What it writes later must not fill the pipe.
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        started.append((process, reader))
        assert address, "the registry did not start"
        return address

    yield start
    for process, reader in started:
        process.terminate()
        process.wait()
        reader.join()
        process.stderr.close()


@pytest.fixture
def registry(start_registry: Callable[..., str]) -> str:
    """A registry that takes everything."""
    return start_registry()


@pytest.fixture
def osv() -> Iterator[Osv]:
    """A database of vulnerabilities."""
    database = Osv()
    yield database
    database.close()


class Osv:
    """What api.osv.dev is, with what a test puts into it."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: set[str] = set()
        database = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = asked["package"]["name"]
                database.asked.add(name)
                body = {"vulns": [database.known[name]]} if name in database.known else {}
                content = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/query"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
