"""The image of a release: built or found, and pushed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from releasing.program import Refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from releasing.archive import ImageArchive
    from releasing.tree import Tree

NAME = "kotaemon-grpc"
REVISION = "org.opencontainers.image.revision"
VERSION = "org.opencontainers.image.version"
# What skopeo prints for MANIFEST_UNKNOWN and NAME_UNKNOWN of the distribution specification. Other
# errors have "not found" in them too, such as the page of a proxy.
UNKNOWN = re.compile(
    r": (manifest|name) unknown(: (manifest unknown|repository name not known to registry))?\W*$"
)


def build(tree: Tree, files: Path, target: Path) -> None:
    """Build the image and write it as an OCI archive, with the tool that has built it.

    Args:
        tree: the commit.
        files: its files; the working tree has others, which git ignores.
        target: the archive.
    """
    commit = {"REVISION": tree.commit, "SOURCE_DATE_EPOCH": str(tree.epoch_s)}
    # The layers of earlier builds have older packages and an older time.
    script = files / "scripts" / "image"
    said = run(script, "--fresh", cwd=files, env=commit, shown=True)
    built = json.loads(said.splitlines()[-1])
    saves = {
        "podman": ("save", "--format", "oci-archive", "--output", target, built["id"]),
        "buildah": ("push", built["id"], f"oci-archive:{target}"),
        "docker": ("save", "--output", target, built["id"]),
    }
    run(built["tool"], *saves[built["tool"]])


def check(image: ImageArchive, tree: Tree) -> None:
    """See that the image is that of the commit.

    Raises:
        Refused: its labels say otherwise.
    """
    for label, expected in ((VERSION, tree.version), (REVISION, tree.commit)):
        found = image.labels.get(label, "nothing")
        if found != expected:
            raise Refused(f"the image's label {label} is {found}, and not {expected}")


def found_in(registry: str, version: str, *, plain_http: bool) -> str | None:
    """Give the digest of the image that a registry has of a version, if it has one.

    Args:
        registry: a host and maybe a path.
        version: the tag.
        plain_http: the registry has no TLS.

    Raises:
        Refused: it does not answer, or lets us not read.
    """
    said = inspected(registry, f"{NAME}:{version}", "--format={{.Digest}}", plain_http=plain_http)
    return said and said.strip()


def inspected(registry: str, name: str, option: str, *, plain_http: bool) -> str | None:
    """Ask a registry about an image or a chart; None if it does not have it.

    Raises:
        Refused: it does not answer, or lets us not read.
    """
    reference = f"docker://{registry}/{name}"
    try:
        return run("skopeo", "inspect", option, *tls(plain_http=plain_http), reference)
    except Refused as error:
        if UNKNOWN.search(str(error)):
            return None
        raise Refused(f"the registry {registry} refuses: {error}") from error


def refuse_another(registry: str, version: str, digest: str, *, plain_http: bool) -> None:
    """See that a registry has no other image of a version.

    Raises:
        Refused: it has one, or it does not answer.
    """
    there = found_in(registry, version, plain_http=plain_http)
    if there not in {None, digest}:
        raise Refused(f"{registry} has another image of {version}, {there}")


def push(archive: Path, registry: str, version: str, digest: str, *, plain_http: bool) -> None:
    """Push the archive as it is, and see that the registry has it under its digest then.

    Raises:
        Refused: the registry takes it not, or has another one of the version, before or after.
    """
    refuse_another(registry, version, digest, plain_http=plain_http)
    reference = f"docker://{registry}/{NAME}:{version}"
    options = [
        "--preserve-digests",
        *(f"--dest-{option[2:]}" for option in tls(plain_http=plain_http)),
    ]
    try:
        run("skopeo", "copy", "--quiet", *options, f"oci-archive:{archive}", reference)
    except Refused as error:
        raise Refused(f"the registry {registry} refuses the image: {error}") from error
    there = found_in(registry, version, plain_http=plain_http)
    if there != digest:
        raise Refused(
            f"{registry} has {there or 'nothing'} as {version}, where {digest} was pushed"
        )


def tls(*, plain_http: bool) -> list[str]:
    """Give skopeo's option for a registry without TLS."""
    return ["--tls-verify=false"] if plain_http else []
