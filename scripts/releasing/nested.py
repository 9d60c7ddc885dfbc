"""What Python packages say of the parts that are linked into them (PEP 770).

Such a part, a crate of Rust for example, is no package of its own in the image.
"""

from __future__ import annotations

import json
import posixpath
import re
from typing import TYPE_CHECKING, Any

from cyclonedx.model.component import Component, ComponentType
from packageurl import PackageURL

from releasing.licences import licences
from releasing.program import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

SBOM = re.compile(r"(.*/)?[^/]+\.dist-info/sboms/[^/]+\.json")
KINDS = {each.value: each for each in ComponentType}


def components(files: dict[str, bytes], metadata_path: str, ref: str) -> list[Component]:
    """Make components of the parts of a package; those of lists that are not CycloneDX are none.

    Args:
        files: of the image, by path; those that SBOM matches are looked at.
        metadata_path: where the package has its metadata.
        ref: of the package's own component, which begins those of its parts.

    Raises:
        Refused: a list of parts cannot be read.
    """
    folder = f"{posixpath.dirname(metadata_path)}/sboms/"
    found: dict[str, Component] = {}
    for path, content in sorted(files.items()):
        if path.startswith(folder) and SBOM.fullmatch(path):
            try:
                document = json.loads(content)
                if document.get("bomFormat") == "CycloneDX":
                    for part in parts(document):
                        made = component(part, ref)
                        found.setdefault(str(made.bom_ref), made)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Refused(f"{path} of the image is no list of components") from error
    return list(found.values())


def parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the parts of a document or of a part, and theirs."""
    for part in document.get("components", []):
        yield part
        yield from parts(part)


def component(part: dict[str, Any], ref: str) -> Component:
    """Make the component of a part."""
    name, version = part["name"], part.get("version")
    purl = PackageURL.from_string(part["purl"]) if "purl" in part else None
    said = [
        each.get("expression") or each["license"].get("id") or each["license"]["name"]
        for each in part.get("licenses", [])
    ]
    return Component(
        type=KINDS.get(part.get("type", ""), ComponentType.LIBRARY),
        name=name,
        version=version,
        bom_ref=f"{ref}#{purl.to_string() if purl else f'{name}@{version}'}",
        purl=purl,
        licenses=licences(said),
    )
