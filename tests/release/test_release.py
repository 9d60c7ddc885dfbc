"""The whole verb: what it makes, and that others can check and use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tests.release.images import SITE, write_image
from tests.release.project import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.release.conftest import Osv
    from tests.release.project import Key, Project

STEM = f"kotaemon-grpc-{VERSION}"
UNSIGNED = {
    f"kotaemon_grpc-{VERSION}-py3-none-any.whl",
    f"kotaemon_grpc-{VERSION}.tar.gz",
    f"{STEM}.oci.tar",
    f"{STEM}.cdx.json",
    f"{STEM}.tgz",
    "SHA256SUMS",
}


def out(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command that has to work."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_signed_release_is_pushed_and_can_be_verified(  # noqa: PLR0917 - pytest names them
    project: Project, key: Key, registry: str, osv: Osv, tools: Path, tmp_path: Path
) -> None:
    done = project.release(
        f"--push={registry}", "--plain-http", f"--osv-url={osv.url}", **key.variables
    )

    assert done.returncode == 0, done.stderr
    made = {each.name for each in project.dist.iterdir()}
    assert made == UNSIGNED | {f"{STEM}.tgz.prov", "SHA256SUMS.asc"}
    assert {"grpcio", "click"} < osv.asked

    sums = out("sha256sum", "--check", "SHA256SUMS", cwd=project.dist)
    assert sums.count(": OK") == len(made) - 2
    key.gpg("--verify", str(project.dist / "SHA256SUMS.asc"), str(project.dist / "SHA256SUMS"))

    public = f"--keyring={key.home / 'public.gpg'}"
    for helm in (tools / "helm-3", tools / "helm-4"):
        out(helm, "verify", project.dist / f"{STEM}.tgz", public)
        pulled = tmp_path / helm.name
        pulled.mkdir()
        chart = f"oci://{registry}/charts/kotaemon-grpc"
        out(helm, "pull", chart, f"--version={VERSION}", "--plain-http", "--verify", public,
            f"--destination={pulled}")  # fmt: skip
        assert (pulled / f"{STEM}.tgz").read_bytes() == (project.dist / f"{STEM}.tgz").read_bytes()

    copy = tmp_path / "pulled.tar"
    reference = f"docker://{registry}/kotaemon-grpc:{VERSION}"
    out("skopeo", "copy", "--src-tls-verify=false", reference, f"oci-archive:{copy}")
    assert digest_of(copy) == digest_of(project.dist / f"{STEM}.oci.tar")


def digest_of(archive: Path) -> str:
    """Read the digest of the image in an archive."""
    with tarfile.open(archive) as tar:
        (image,) = json.load(tar.extractfile("index.json"))["manifests"]
    return image["digest"]


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ([], "{registry}/kotaemon-grpc@{digest}"),
        (["global.imageRegistry=mirror:5000"], "mirror:5000/kotaemon-grpc@{digest}"),
        (["image.registry=own:5000"], "own:5000/kotaemon-grpc@{digest}"),
        (["image.tag=edge", "image.digest="], "{registry}/kotaemon-grpc:edge"),
    ],
)
def test_the_chart_installs_the_image_of_the_release(
    project: Project, registry: str, tools: Path, values: list[str], image: str
) -> None:
    done = project.release("--unsigned", "--without-audit", f"--push={registry}", "--plain-http")
    assert done.returncode == 0, done.stderr

    sets = [f"--set={each}" for each in values]
    text = out(tools / "helm-4", "template", "agents", project.dist / f"{STEM}.tgz", *sets)
    found = {
        container["image"]
        for each in yaml.safe_load_all(text)
        if each and each["kind"] == "StatefulSet"
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    digest = digest_of(project.dist / f"{STEM}.oci.tar")
    assert found == {image.format(registry=registry, digest=digest)}


def test_the_chart_tells_which_image_it_is_made_for(project: Project, tools: Path) -> None:
    done = project.release("--unsigned", "--without-audit")
    assert done.returncode == 0, done.stderr

    about = yaml.safe_load(out(tools / "helm-4", "show", "chart", project.dist / f"{STEM}.tgz"))
    assert about["version"] == about["appVersion"] == VERSION
    (image,) = yaml.safe_load(about["annotations"]["artifacthub.io/images"])
    digest = digest_of(project.dist / f"{STEM}.oci.tar")
    assert image["image"] == f"kotaemon-grpc:{VERSION}@{digest}"
    assert digest in out(tools / "helm-4", "show", "readme", project.dist / f"{STEM}.tgz")
    out(tools / "helm-3", "lint", "--strict", project.dist / f"{STEM}.tgz")


def test_the_same_commit_makes_the_same_bytes(
    project: Project, registry: str, tmp_path: Path
) -> None:
    def make(*arguments: str) -> dict[str, bytes]:
        done = project.run("--unsigned", "--without-audit", *arguments)
        assert done.returncode == 0, done.stderr
        return {each.name: each.read_bytes() for each in project.dist.iterdir()}

    first = make(f"--image-archive={project.image}", f"--push={registry}", "--plain-http")
    project.git("tag", f"v{VERSION}")
    # What git ignores is no part of it, and neither is when files were written.
    (project.root / "helm" / "kotaemon-grpc" / "__pycache__").mkdir()
    (project.root / "helm" / "kotaemon-grpc" / "__pycache__" / "a").write_text("a")
    (project.root / "README.md").touch()
    released = tmp_path / "released.tar"
    released.write_bytes(first[f"{STEM}.oci.tar"])
    second = make(f"--image-archive={released}", f"--registry={registry}", "--rebuild")

    assert first.keys() == UNSIGNED
    assert [name for name in first if first[name] != second[name]] == []


def test_the_list_of_materials_has_what_is_in_the_image(project: Project) -> None:
    done = project.release("--unsigned", "--without-audit")
    assert done.returncode == 0, done.stderr

    text = (project.dist / f"{STEM}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    root = bom["metadata"]["component"]
    digest = digest_of(project.dist / f"{STEM}.oci.tar")
    assert root["type"] == "container"
    assert root["hashes"] == [{"alg": "SHA-256", "content": digest.removeprefix("sha256:")}]

    found = {each["name"]: each for each in bom["components"]}
    locked = project.locked()
    # pip was in a layer, and the next one took it away.
    assert found.keys() == {*locked, "kotaemon-grpc", "zlib1g", "libc6", "debian"}
    for name, version in locked.items():
        assert found[name]["purl"] == f"pkg:pypi/{name}@{version}"
        (reference,) = found[name]["externalReferences"]
        lock = (project.root / "requirements" / "image.txt").read_text()
        assert all(each["content"] in lock for each in reference["hashes"])
        assert reference["hashes"]
    assert found["kotaemon-grpc"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    zlib = found["zlib1g"]
    assert zlib["purl"] == (
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12"
        "&upstream=zlib%401:1.2.13.dfsg-1"
    )
    ids = [each["license"]["id"] for each in zlib["licenses"]]
    assert sorted(ids) == ["GPL-2.0-or-later", "MIT", "Zlib"]
    assert "upstream=glibc%402.36-9" in found["libc6"]["purl"]

    needs = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    assert needs[zlib["bom-ref"]] == [found["libc6"]["bom-ref"]]
    assert needs[found["kotaemon-grpc"]["bom-ref"]] == sorted(
        found[name]["bom-ref"] for name in locked
    )
    assert needs[root["bom-ref"]] == sorted(
        [found["kotaemon-grpc"]["bom-ref"], zlib["bom-ref"], "os:debian@12"]
    )


def test_the_bill_of_materials_tells_what_is_inside_of_packages(project: Project) -> None:
    version = project.locked()["orjson"]
    crate = {
        "type": "library",
        "name": "serde",
        "version": "1.0.1",
        "purl": "pkg:cargo/serde@1.0.1",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }
    sbom = {"bomFormat": "CycloneDX", "specVersion": "1.4", "components": [crate]}
    folder = f"{SITE}/orjson-{version}.dist-info/sboms"
    lists = {
        f"{folder}/rust.json": json.dumps(sbom),
        f"{folder}/spdx.json": '{"spdxVersion": "SPDX-2.3"}',
    }
    write_image(project, more=lists)
    done = project.release("--unsigned", "--without-audit")

    assert done.returncode == 0, done.stderr
    bom = json.loads((project.dist / f"{STEM}.cdx.json").read_text())
    found = {each["name"]: each for each in bom["components"]}
    ref = f"{found['orjson']['bom-ref']}#{crate['purl']}"
    assert found["orjson"]["components"] == [{**crate, "bom-ref": ref}]
    assert (found["debian"]["type"], found["debian"]["version"]) == ("operating-system", "12")
    assert bom["metadata"]["properties"] == [{"name": "kotaemon-grpc:audit", "value": "none"}]

    write_image(project, more={f"{folder}/rust.json": "no JSON"})
    done = project.release("--unsigned", "--without-audit")
    assert "rust.json of the image is no list of components" in done.stderr


def test_the_image_is_built_and_saved_by_the_same_tool(project: Project, tmp_path: Path) -> None:
    # Stands in for scripts/image and for podman, which tests/image and tests/cluster use.
    built = json.dumps({"tool": "podman", "image": "a", "id": "sha256:1", "compressed_bytes": 1})
    script = project.root / "scripts" / "image"
    script.write_text(
        "#!/bin/sh\necho it takes long >&2\n[ -e .env ] && exit 1\n"
        'echo "$* REVISION=$REVISION SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" >&2\n'
        f"stat --format=%a scripts/image.toml >&2\necho '{built}'\n"
    )
    project.commit()
    # git ignores it, and so would no `COPY . .` of the image.
    (project.root / ".git" / "info" / "exclude").write_text(".env\n")
    (project.root / ".env").write_text("SECRET=1\n")
    write_image(project)
    podman = tmp_path / "bin" / "podman"
    podman.parent.mkdir()
    podman.write_text(
        '#!/bin/sh\n[ "$1 $2 $3 $4 $6" = "save --format oci-archive --output sha256:1" ] '
        f'&& cp {project.image} "$5"\n'
    )
    podman.chmod(0o755)

    path = f"{podman.parent}:{os.environ['PATH']}"
    done = project.run("--unsigned", "--without-audit", PATH=path)

    assert done.returncode == 0, done.stderr
    assert "it takes long" in done.stderr
    commit, epoch_s = project.git("log", "-1", "--format=%H %ct").split()
    assert f"--fresh REVISION={commit} SOURCE_DATE_EPOCH={epoch_s}\n644\n" in done.stderr
    assert digest_of(project.dist / f"{STEM}.oci.tar") == digest_of(project.image)


def test_a_key_of_the_users_own_gnupg_signs(
    project: Project, make_key: Callable[..., Key], tools: Path
) -> None:
    key = make_key("rsa2048")
    done = project.release("--without-audit", SIGNING_KEY="release@", GNUPGHOME=str(key.home))

    assert done.returncode == 0, done.stderr
    public = f"--keyring={key.home / 'public.gpg'}"
    out(tools / "helm-3", "verify", project.dist / f"{STEM}.tgz", public)


def test_every_option_is_in_the_guide(project: Project) -> None:
    options = set(re.findall(r"--[a-z-]+", project.run("--help").stdout)) - {"--help"}
    guide = (project.root / "docs" / "releasing.md").read_text()
    rows = "\n".join(line for line in guide.splitlines() if line.startswith("| `"))
    assert sorted(options) == sorted(set(re.findall(r"--[a-z-]+", rows)) - {"--export-secret-keys"})
