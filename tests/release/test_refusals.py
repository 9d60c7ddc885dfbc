"""What is no release is refused in words, and leaves what was there as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.release.images import write_image
from tests.release.project import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    (tmp_path / "pip_audit").mkdir()
    (tmp_path / "pip_audit" / "__init__.py").touch()
    (tmp_path / "pip_audit" / "__main__.py").write_text(f"print('''{skipped}''')\n")
    done = project.release("--unsigned", PYTHONPATH=str(tmp_path))
    refused(project, done, "does not know 1 of 2 packages", "Dependency not found on PyPI")


def test_an_image_of_another_commit(project: Project) -> None:
    project.git("commit", "--quiet", "--allow-empty", "--message=later")
    refused(project, project.release(*QUICK), "label org.opencontainers.image.revision is")


def test_an_image_with_a_package_that_is_not_locked(project: Project) -> None:
    write_image(project.image, project.labels(), {**project.locked(), "click": "0.1"})
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

    write_image(project.image, {**project.labels(), "other": "true"}, project.locked())
    done = project.release(*QUICK, f"--push={registry}", "--plain-http")
    refused(project, done, f"has another image of {VERSION}")


def test_a_place_that_is_taken(project: Project, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    done = project.release(*QUICK, f"--dist={tmp_path / 'letters'}")
    refused(project, done, "is no release that could be replaced")
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"


def test_a_release_that_is_ended_leaves_nothing(project: Project, tmp_path: Path) -> None:
    script = project.root / "scripts" / "image"
    script.write_text("#!/bin/sh\necho building >&2\nexec cat <fifo\n")
    project.commit()
    os.mkfifo(project.root / "fifo")
    (project.root / ".git" / "info" / "exclude").write_text("fifo\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, project.root / "scripts" / "release", *QUICK],
        cwd=project.root,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), "HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "building\n"
    assert [each.name[:8] for each in scratch.iterdir()] == ["release-"]
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    process.stderr.close()
    assert list(scratch.iterdir()) == []
    assert [each.name for each in project.dist.iterdir()] == ["SHA256SUMS"]
