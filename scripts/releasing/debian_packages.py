"""The Debian packages of an image without a package manager.

Each has its control data in /var/lib/dpkg/status.d, which is where scanners look for them.
"""

from __future__ import annotations

import re
from email import message_from_bytes, message_from_string
from typing import TYPE_CHECKING
from urllib.parse import quote

from cyclonedx.model import ExternalReference, ExternalReferenceType, XsUri
from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

from releasing.licences import licences

if TYPE_CHECKING:
    from collections.abc import Iterable
    from email.message import Message

STATUS = re.compile(r"var/lib/dpkg/status\.d/(?!.*\.md5sums$)[^/]+")
COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
RELEASE = re.compile(r"(etc|usr/lib)/os-release")
MACHINE_READABLE = re.compile(r"https?://www\.debian\.org/doc/packaging-manuals/copyright-format/")


def components(files: dict[str, bytes]) -> dict[Component, list[str]]:
    """Make components of the packages, each with the names of what it needs.

    Args:
        files: of the image, by path; STATUS, COPYRIGHT and RELEASE match those looked at.
    """
    release = release_of(files)
    distribution = f"{release['ID']}-{release['VERSION_ID']}" if release else ""
    found = {}
    for path, content in sorted(files.items()):
        if STATUS.fullmatch(path):
            control = message_from_bytes(content)
            copyright_file = files.get(f"usr/share/doc/{control['Package']}/copyright", b"")
            said = said_licences(copyright_file.decode(errors="replace"))
            found[component(control, distribution, said)] = list(needs(control))
    return found


def component(control: Message, distribution: str, said: list[str]) -> Component:
    """Make the component of a package."""
    name, version = control["Package"], control["Version"]
    qualifiers = {"arch": control["Architecture"], "distro": distribution}
    if source := control["Source"]:
        # Debian's security data goes by the source: `name` or `name (version)`.
        source_name, _, source_version = source.partition(" ")
        qualifiers["upstream"] = f"{source_name}@{source_version.strip('()') or version}"
    purl = PackageURL("deb", "debian", name, version, {k: v for k, v in qualifiers.items() if v})
    references = []
    if url := control["Homepage"]:
        kind = ExternalReferenceType.WEBSITE
        references = [ExternalReference(type=kind, url=XsUri(quote(url, safe=":/?&=#%~")))]
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        description=(control["Description"] or "").partition("\n")[0] or None,
        licenses=licences(said),
        external_references=references,
    )


def release_of(files: dict[str, bytes]) -> dict[str, str]:
    """Read os-release(5), which is empty when no file says ID and VERSION_ID."""
    for path, content in files.items():
        if RELEASE.fullmatch(path):
            lines = content.decode(errors="replace").splitlines()
            pairs = (line.partition("=") for line in lines)
            found = {key: value.strip("\"'") for key, _, value in pairs}
            if {"ID", "VERSION_ID"} <= found.keys():
                return found
    return {}


def operating_system(files: dict[str, bytes]) -> list[Component]:
    """Make the component of the distribution, by which scanners find the data for its packages."""
    release = release_of(files)
    if not release:
        return []
    name, version = release["ID"], release["VERSION_ID"]
    return [
        Component(
            type=ComponentType.OPERATING_SYSTEM,
            name=name,
            version=version,
            bom_ref=f"os:{name}@{version}",
            description=release.get("PRETTY_NAME"),
        )
    ]


def said_licences(text: str) -> list[str]:
    """Name the licences of a machine-readable copyright file (DEP-5); none of another."""
    if not re.match(rf"Format: *{MACHINE_READABLE.pattern}", text):
        return []
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = message_from_string(paragraph)
        # Paragraphs without Files hold the text of a licence that others name.
        if fields["Files"] and (said := (fields["License"] or "").partition("\n")[0]):
            found += re.split(r",?\s+(?:and|or)\s+|,\s*", said.strip())
    return found


def needs(control: Message) -> Iterable[str]:
    """Name the packages that a package needs; of alternatives, all."""
    for key in ("Pre-Depends", "Depends"):
        for each in re.split(r"[,|]", control[key] or ""):
            if name := each.strip().partition(" ")[0].partition(":")[0]:
                yield name
