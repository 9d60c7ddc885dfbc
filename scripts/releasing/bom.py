"""The bill of materials of an image: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING

from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from releasing import debian_packages, nested, python_packages
from releasing.program import Refused

if TYPE_CHECKING:
    from releasing.archive import ImageArchive

PATTERNS = (
    python_packages.METADATA,
    nested.SBOM,
    debian_packages.STATUS,
    debian_packages.COPYRIGHT,
    debian_packages.RELEASE,
)


def write(
    image: ImageArchive,
    name: str,
    version: str,
    lock_text: str,
    epoch_s: int,
    *,
    audited: dict[str, list[str]],
) -> str:
    """List what is in an image.

    Args:
        image: the image.
        name: what it is called.
        version: of what it holds.
        lock_text: the lock file that its Python packages were installed from.
        epoch_s: when it was made, in seconds since 1970; the same image makes the same list.
        audited: what was not looked at for vulnerabilities, as properties: values by name.

    Raises:
        Refused: the image has no packages that can be listed, a Python package is not the locked
            one, a locked one is missing, or the list does not fit its schema.
    """
    lock = python_packages.read_lock(lock_text)
    files = image.files(lambda path: any(each.fullmatch(path) for each in PATTERNS))
    python = python_packages.components(files, lock)
    debian = debian_packages.components(files)
    for kind, found in (("Python", python), ("Debian", debian)):
        if not found:
            raise Refused(f"the image says of no {kind} package that it holds it")
    refuse_unlocked(python, lock, name)
    system = {each: list[str]() for each in debian_packages.operating_system(files)}

    root = container(name, version, image.digest)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, str(root.purl)),
        metadata=BomMetaData(
            component=root,
            timestamp=dt.datetime.fromtimestamp(epoch_s, dt.UTC),
            properties=[
                Property(name=f"{name}:{key}", value=value)
                for key, values in audited.items()
                for value in values
            ],
        ),
        components=[*python, *debian, *system],
    )
    bom.metadata.tools.components.add(this_component())
    for group in (python, debian, system):
        connect(bom, root, group)
    text = JsonV1Dot6(bom).output_as_string(indent=2) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise Refused(f"the bill of materials does not fit its schema: {error.data.message}")
    return text


def container(name: str, version: str, digest: str) -> Component:
    """Make the component that is the image itself."""
    purl = PackageURL("oci", None, name, digest, {"tag": version})
    return Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        hashes=[HashType.from_composite_str(digest)],
    )


def connect(bom: Bom, root: Component, group: dict[Component, list[str]]) -> None:
    """Say what needs what; the image needs what nothing else in it does."""
    by_name = {component.name: component for component in group}
    needed = set()
    for component, names in group.items():
        others = [by_name[name] for name in names if name in by_name and name != component.name]
        bom.register_dependency(component, others)
        needed |= {other.name for other in others}
    bom.register_dependency(root, [each for each in group if each.name not in needed])


def refuse_unlocked(
    python: dict[Component, list[str]], lock: dict[str, python_packages.Locked], ours: str
) -> None:
    """See that the image holds what was locked, which is what is audited.

    Raises:
        Refused: it holds something else, or lacks something.
    """
    found_names = {component.name for component in python}
    if missing := sorted(lock.keys() - found_names):
        raise Refused(f"the image lacks {', '.join(missing)} of requirements/image.txt")
    for component in python:
        found = f"{component.name} {component.version}"
        locked = lock.get(component.name)
        if component.name != ours and (locked is None or locked.version != component.version):
            there = f"has {locked.version}" if locked else "does not have it"
            raise Refused(f"the image holds {found}, and requirements/image.txt {there}")
