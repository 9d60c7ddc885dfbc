"""The image of a release: built or found, and pushed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from releasing.program import Refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from releasing.archive import ImageArchive
    from releasing.tree import Tree

NAME = "kotaemon-grpc"
REVISION = "org.opencontainers.image.revision"
VERSION = "org.opencontainers.image.version"


def build(tree: Tree, target: Path) -> None:
    """Build the image and write it as an OCI archive, with the tool that has built it."""
    lines = run(tree.root / "scripts" / "image", cwd=tree.root, shown=True).splitlines()
    built = json.loads(lines[-1])
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
    reference = f"docker://{registry}/{NAME}:{version}"
    try:
        return run(
            "skopeo", "inspect", "--format={{.Digest}}", *tls(plain_http=plain_http), reference
        ).strip()
    except Refused as error:
        # What the distribution specification calls MANIFEST_UNKNOWN and NAME_UNKNOWN.
        unknown = ("manifest unknown", "name unknown", "repository name not known", "not found")
        if any(each in str(error).lower() for each in unknown):
            return None
        raise Refused(f"the registry {registry} refuses: {error}") from error


def push(archive: Path, registry: str, version: str, *, plain_http: bool) -> None:
    """Push the archive as it is, so that its digest stays true."""
    reference = f"docker://{registry}/{NAME}:{version}"
    options = [
        "--preserve-digests",
        *(f"--dest-{option[2:]}" for option in tls(plain_http=plain_http)),
    ]
    try:
        run("skopeo", "copy", "--quiet", *options, f"oci-archive:{archive}", reference)
    except Refused as error:
        raise Refused(f"the registry {registry} refuses the image: {error}") from error


def tls(*, plain_http: bool) -> list[str]:
    """Give skopeo's option for a registry without TLS."""
    return ["--tls-verify=false"] if plain_http else []
