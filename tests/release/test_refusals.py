"""What is no release is refused in words, and leaves what was there as it was."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from releasing import directory, image
from releasing.program import Refused
from tests.release.images import write_image
from tests.release.project import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.release.conftest import Osv
    from tests.release.project import Done, Key, Project

QUICK = ("--unsigned", "--without-audit")


@pytest.fixture(autouse=True)
def older_release(project: Project) -> None:
    """Put an older release where the new one would go."""
    project.dist.mkdir()
    (project.dist / "SHA256SUMS").write_text("of an older release\n")


def refused(project: Project, done: Done, *said: str) -> None:
    """See that it failed, said why, and left the older release alone."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.splitlines()[0].startswith("error: ")
    assert [text for text in said if text not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert [each.name for each in project.dist.iterdir()] == ["SHA256SUMS"]
    assert project.git("status", "--porcelain", "--", ".", ":!new", ":!README.md") == ""


def test_a_changed_tree(project: Project) -> None:
    (project.root / "new").write_text("")
    with (project.root / "README.md").open("a") as file:
        file.write("more\n")
    done = project.release(*QUICK)
    refused(
        project, done, "the tree differs from its last commit in 2 files", "README.md", "?? new"
    )


def test_a_version_with_a_tag(project: Project) -> None:
    project.git("tag", f"v{VERSION}")
    refused(project, project.release(*QUICK), f"v{VERSION} is a tag already", "--rebuild")

    done = project.release(*QUICK, "--rebuild")
    assert done.returncode == 0, done.stderr


def test_a_rebuild_of_another_commit(project: Project) -> None:
    project.git("tag", f"v{VERSION}")
    project.git("commit", "--quiet", "--allow-empty", "--message=later")
    refused(project, project.release(*QUICK, "--rebuild"), f"v{VERSION} does not name this commit")


def test_a_chart_of_another_version(project: Project) -> None:
    chart = project.root / "helm" / "kotaemon-grpc" / "Chart.yaml"
    chart.write_text(chart.read_text().replace(f"appVersion: {VERSION}", "appVersion: 99"))
    project.commit()
    refused(project, project.release(*QUICK), "appVersion of the chart is 99")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the key with SIGNING_KEY, or say --unsigned"),
        (["--unsigned", "--signing-key=a"], "and not both"),
        (["--unsigned", "--rebuild", "--push=a"], "not pushed once more"),
        (["--unsigned", "--registry=b", "--push=a"], "is the one that is pushed to"),
    ],
)
def test_arguments_that_do_not_go_together(
    project: Project, arguments: list[str], said: str
) -> None:
    done = project.release("--without-audit", *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_key_that_is_not_there(project: Project, key: Key) -> None:
    variables = {**key.variables, "SIGNING_KEY": "nobody@example.org"}
    done = project.release("--without-audit", **variables)
    refused(project, done, "no secret key nobody@example.org is in", "secret.gpg")


def test_a_keyring_that_is_not_there(project: Project, key: Key, tmp_path: Path) -> None:
    variables = {**key.variables, "KEYRING": str(tmp_path / "absent.gpg")}
    done = project.release("--without-audit", **variables)
    refused(project, done, "absent.gpg")


def test_a_key_that_helm_3_cannot_verify(project: Project, make_key: Callable[..., Key]) -> None:
    done = project.release("--without-audit", **make_key("ed25519").variables)
    refused(project, done, "is not one of RSA, and Helm 3 verifies no other")


def test_a_wrong_passphrase(project: Project, key: Key, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("xyzzy\n")
    variables = {**key.variables, "PASSPHRASE_FILE": str(tmp_path / "wrong")}
    done = project.release("--without-audit", **variables)
    refused(project, done, "does not sign; is the passphrase right?")
    assert "xyzzy" not in done.stderr


def test_a_known_vulnerability(project: Project, osv: Osv) -> None:
    version = project.locked()["click"]
    osv.known["click"] = {
        "id": "PYSEC-2026-1",
        "aliases": ["CVE-2026-1"],
        "summary": "a hole",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "click"},
                "versions": [version],
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}],
            }
        ],
    }
    asked = f"--osv-url={osv.url}"
    done = project.release("--unsigned", asked)
    refused(project, done, f"click {version}: ", "CVE-2026-1", "fixed in 99")

    done = project.release("--unsigned", asked, "--accept-vulnerability=PYSEC-2026-1")
    assert done.returncode == 0, done.stderr
    bom = json.loads((project.dist / f"kotaemon-grpc-{VERSION}.cdx.json").read_text())
    accepted = {"name": "kotaemon-grpc:accepted-vulnerability", "value": "PYSEC-2026-1"}
    assert bom["metadata"]["properties"] == [accepted]


def test_a_database_that_is_not_reached(project: Project) -> None:
    # Nothing listens on the port of discard.
    done = project.release("--unsigned", "--osv-url=http://127.0.0.1:9/v1/query")
    refused(
        project, done, "the database of vulnerabilities is not reached", "--without-audit",
        "onnection refused",
    )  # fmt: skip


def test_a_database_that_does_not_know_a_package(project: Project, tmp_path: Path) -> None:
    # What pip-audit writes for a mirror without PyPI's JSON, and then exits with 0.
    skipped = (
        '{"dependencies": [{"name": "a", "version": "1", "vulns": []}, '
        '{"name": "b", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}'
    )
    pip_audit(tmp_path, f"print('''{skipped}''')")
    done = project.release("--unsigned", PYTHONPATH=str(tmp_path))
    refused(project, done, "does not know 1 of 2 packages", "Dependency not found on PyPI")


def test_an_image_of_another_commit(project: Project) -> None:
    project.git("commit", "--quiet", "--allow-empty", "--message=later")
    refused(project, project.release(*QUICK), "label org.opencontainers.image.revision is")


def test_an_image_with_a_package_that_is_not_locked(project: Project) -> None:
    write_image(project, locked={**project.locked(), "click": "0.1"})
    done = project.release(*QUICK)
    refused(project, done, "the image holds click 0.1, and requirements/image.txt has ")


def test_an_image_of_nothing_that_is_listed(project: Project) -> None:
    project.image.write_bytes(b"no archive")
    refused(project, project.release(*QUICK), "is no OCI archive")


def test_a_damaged_image(project: Project) -> None:
    content = project.image.read_bytes()
    project.image.write_bytes(
        content.replace(b'"architecture": "amd64"', b'"architecture": "amd65"')
    )
    refused(project, project.release(*QUICK), "is damaged")


def test_a_registry_that_is_not_there(project: Project) -> None:
    done = project.release(*QUICK, "--push=127.0.0.1:9", "--plain-http")
    refused(project, done, "the registry 127.0.0.1:9 refuses", "onnection refused")


def test_a_registry_that_takes_nothing(
    project: Project, start_registry: Callable[..., str]
) -> None:
    registry = start_registry(readonly=True)
    done = project.release(*QUICK, f"--push={registry}", "--plain-http")
    refused(project, done, f"the registry {registry} refuses the image")


def test_a_registry_with_another_image_of_the_version(project: Project, registry: str) -> None:
    push = (*QUICK, f"--push={registry}", "--plain-http", f"--dist={project.root.parent / 'made'}")
    assert project.release(*push).returncode == 0
    again = project.release(*push)
    assert again.returncode == 0, again.stderr

    write_image(project, labels={**project.labels(), "other": "true"})
    done = project.release(*QUICK, f"--push={registry}", "--plain-http")
    refused(project, done, f"has another image of {VERSION}")


def test_a_registry_that_only_seems_to_have_nothing(project: Project) -> None:
    # A proxy before it, which knows nothing of the path.
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path == "/v2/"
            self.send_response(200 if there else 404)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"{}" if there else b"<h1>404: page not found</h1>")

        do_HEAD = do_GET  # noqa: N815 - http.server names it

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        push = f"--push=127.0.0.1:{server.server_port}"
        done = project.release(*QUICK, push, "--plain-http")
        server.shutdown()
        thread.join()
    refused(project, done, "the registry 127.0.0.1:", "refuses: skopeo failed")


def test_a_registry_that_does_not_have_what_was_pushed(
    project: Project, registry: str, tmp_path: Path
) -> None:
    skopeo = tmp_path / "bin" / "skopeo"
    skopeo.parent.mkdir()
    skopeo.write_text(f'#!/bin/sh\n[ "$1" = copy ] || exec {shutil.which("skopeo")} "$@"\n')
    skopeo.chmod(0o755)
    path = f"{skopeo.parent}:{os.environ['PATH']}"
    done = project.release(*QUICK, f"--push={registry}", "--plain-http", PATH=path)
    refused(project, done, f"{registry} has nothing as {VERSION}, where sha256:")


def test_a_registry_with_another_chart_of_the_version(
    project: Project, registry: str, tools: Path, tmp_path: Path
) -> None:
    helm, chart = tools / "helm-4", project.root / "helm" / "kotaemon-grpc"
    subprocess.run([helm, "package", chart, "-d", tmp_path], check=True, capture_output=True)
    packaged = tmp_path / f"kotaemon-grpc-{VERSION}.tgz"
    push = [helm, "push", packaged, f"oci://{registry}/charts", "--plain-http"]
    subprocess.run(push, check=True, capture_output=True)
    done = project.release(*QUICK, f"--push={registry}", "--plain-http")
    refused(project, done, f"{registry} has another chart of {VERSION}")
    assert image.found_in(registry, VERSION, plain_http=True) is None


def test_a_place_that_is_taken(project: Project, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    done = project.release(*QUICK, f"--dist={tmp_path / 'letters'}")
    refused(project, done, "is no release that could be replaced")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"


def test_an_image_without_a_locked_package(project: Project) -> None:
    locked = project.locked()
    del locked["click"]
    write_image(project, locked=locked)
    refused(project, project.release(*QUICK), "the image lacks click of requirements/image.txt")


def test_an_answer_that_lacks_packages(project: Project, tmp_path: Path) -> None:
    pip_audit(tmp_path, 'print(\'{"dependencies": [], "fixes": []}\')')
    done = project.release("--unsigned", PYTHONPATH=str(tmp_path))
    refused(project, done, f"answers for 0 of the {len(project.locked())} packages")


def test_variables_do_not_choose_who_is_asked(project: Project, tmp_path: Path) -> None:
    pip_audit(
        tmp_path,
        "import json, os, sys",
        "said = [*sys.argv, *(each for each in os.environ if each.startswith('PIP_AUDIT'))]",
        "why = {'name': 'a', 'skip_reason': ' '.join(said)}",
        "print(json.dumps({'dependencies': [why]}))",
    )
    variables = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PYTHONPATH": str(tmp_path)}
    done = project.release("--unsigned", **variables)
    refused(project, done, "--vulnerability-service=pypi")
    assert "PIP_AUDIT" not in done.stderr


def pip_audit(directory: Path, *lines: str) -> None:
    """Put something else in the place of pip-audit."""
    (directory / "pip_audit").mkdir()
    (directory / "pip_audit" / "__init__.py").touch()
    (directory / "pip_audit" / "__main__.py").write_text("\n".join(lines))


def test_a_file_beside_an_older_release(project: Project, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    (made / "SHA256SUMS").write_text("0  a.whl\n")
    (made / "a.whl").touch()
    (made / "notes.txt").write_text("keep me")
    done = project.release(*QUICK, f"--dist={made}")
    refused(project, done, "is in the way", "SHA256SUMS does not list notes.txt")
    assert (made / "notes.txt").read_text() == "keep me"


def test_a_rename_that_fails_leaves_the_older_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.ENOSPC, "no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    place = tmp_path / "place"
    for name in ("made", "dist"):
        (place / name).mkdir(parents=True)
        (place / name / name).touch()
    with pytest.raises(Refused, match="cannot be written: no space left"):
        directory.publish(place / "made", place / "dist")
    assert sorted(each.name for each in place.iterdir()) == ["dist", "made"]
    assert (place / "dist" / "dist").exists()


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Give a directory whose path is short enough for the socket of GnuPG's agent."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_release_that_is_ended_leaves_nothing(
    project: Project, key: Key, tmp_path: Path, runtime: Path, number: signal.Signals
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = project.root / "scripts" / "image"
    script.write_text(f"#!/bin/sh\necho building >&2\nexec cat <{fifo}\n")
    project.commit()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    places = {"TMPDIR": str(scratch), "XDG_RUNTIME_DIR": str(runtime), "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [
            "/usr/bin/env", "--default-signal=HUP,QUIT,TERM", sys.executable,
            project.root / "scripts" / "release", "--without-audit", "--helm=/bin/true",
        ],
        cwd=project.root,
        env={"PATH": "/usr/bin:/bin", **places, **key.variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr.readline() == "building\n"
    assert [each.name[:8] for each in scratch.iterdir()] == ["release-"]
    (keys,) = runtime.iterdir()
    assert [oct(each.stat().st_mode & 0o777) for each in (keys, keys / "passphrase")] == [
        "0o700", "0o600"
    ]  # fmt: skip
    assert agents(keys) == 1
    process.send_signal(number)
    assert process.wait() == 128 + number
    process.stderr.close()
    assert [*scratch.iterdir(), *runtime.iterdir()] == []
    assert agents(keys) == 0
    assert [each.name for each in project.dist.iterdir()] == ["SHA256SUMS"]


def test_a_key_that_cannot_be_opened_leaves_no_agent(
    project: Project, key: Key, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("xyzzy\n")
    # Where gpgconf is called last, it tells whose agent it ends.
    gpgconf = tmp_path / "bin" / "gpgconf"
    gpgconf.parent.mkdir()
    gpgconf.write_text(f'#!/bin/sh\necho "$2" >{tmp_path}/ended\nexec /usr/bin/gpgconf "$@"\n')
    gpgconf.chmod(0o755)
    path = f"{gpgconf.parent}:{os.environ['PATH']}"
    variables = {**key.variables, "PASSPHRASE_FILE": str(tmp_path / "wrong"), "PATH": path}
    refused(project, project.release("--without-audit", **variables), "does not sign")
    home = Path((tmp_path / "ended").read_text().strip())
    assert not home.exists()
    assert agents(home) == 0


def agents(home: Path) -> int:
    """Count the agents of GnuPG's for a directory."""
    found = 0
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # some end meanwhile
            said = each.read_bytes()
            found += b"gpg-agent" in said and bytes(home) in said
    return found
