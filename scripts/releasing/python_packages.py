"""The Python packages of an image, as their metadata tells of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import TYPE_CHECKING

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashType, XsUri
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from releasing import nested
from releasing.licences import licences

if TYPE_CHECKING:
    from collections.abc import Iterable
    from email.message import Message

METADATA = re.compile(r"(.*/)?[^/]+\.dist-info/METADATA")
OURS = "kotaemon-grpc"
EXTRAS = ("", "server", "otlp")  # those that the image is built with
TROVE = "License :: OSI Approved :: "


@dataclass(frozen=True)
class Locked:
    """A line of a lock file: the version, and the hashes of the files that it allows."""

    version: str
    sha256: list[str] = field(default_factory=list)


def read_lock(text: str) -> dict[str, Locked]:
    """Read a lock file that uv wrote, by the names of the packages."""
    locked: dict[str, Locked] = {}
    current = Locked("")
    for line in text.splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", line):
            current = locked[canonicalize_name(match[1])] = Locked(match[2])
        current.sha256.extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return locked


def components(files: dict[str, bytes], lock: dict[str, Locked]) -> dict[Component, list[str]]:
    """Make components of the packages, each with the names of what it needs.

    Args:
        files: of the image, by path; those that METADATA and nested.SBOM match are looked at.
        lock: what the packages were installed from.
    """
    found = {}
    for path, content in sorted(files.items()):
        if METADATA.fullmatch(path):
            metadata = message_from_bytes(content)
            name = canonicalize_name(metadata["Name"])
            purl = PackageURL("pypi", None, name, metadata["Version"])
            inside = nested.components(files, path, purl.to_string())
            found[component(metadata, purl, lock, inside)] = list(needs(metadata))
    return found


def component(
    metadata: Message, purl: PackageURL, lock: dict[str, Locked], inside: list[Component]
) -> Component:
    """Make the component of a package, with the components that are linked into it."""
    name, version = purl.name, purl.version
    references = []
    if name in lock:
        # One of these files is what is installed; which one hangs on the platform.
        references = [
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(f"https://pypi.org/project/{name}/{version}/#files"),
                comment="the files that the lock allows",
                hashes=[
                    HashType.from_composite_str(f"sha256:{sha256}") for sha256 in lock[name].sha256
                ],
            )
        ]
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        description=metadata["Summary"],
        licenses=licences(said_licences(metadata)),
        external_references=references,
        components=inside,
    )


def said_licences(metadata: Message) -> list[str]:
    """Find what a package says of its licence, the clearest first (PEP 639)."""
    if expression := metadata["License-Expression"]:
        return [expression]
    trove = [
        text.removeprefix(TROVE)
        for text in metadata.get_all("Classifier", [])
        if text.startswith(TROVE)
    ]
    said = (metadata["License"] or "").strip()
    # Some put the whole text there.
    return [said] if said and "\n" not in said else trove


def needs(metadata: Message) -> Iterable[str]:
    """Name the packages that a package needs here."""
    extras = EXTRAS if metadata["Name"] == OURS else ("",)
    for text in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield canonicalize_name(requirement.name)
