"""What packages say of their licences, as CycloneDX has it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.spdx import fixup_id

if TYPE_CHECKING:
    from cyclonedx.model.license import License

# What Debian's machine-readable files and packages of PyPI call licences, and SPDX does not.
GNU = re.compile(r"(A?L?GPL|GFDL)-(\d)(\.\d)?(\+)?", re.IGNORECASE)
OTHERS = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache-2": "Apache-2.0",
    "expat": "MIT",
    "mit license": "MIT",
}


def licences(said: list[str]) -> list[License]:
    """Make identifiers of SPDX where there are such, and names elsewhere.

    CycloneDX takes one expression, or any number of the others, and no mixture.
    """
    factory = LicenseFactory()
    names = sorted({spdx(each) for each in said})
    if len(names) == 1:
        return [factory.make_from_string(names[0])]
    return [
        factory.make_with_id(each) if fixup_id(each) else factory.make_with_name(each)
        for each in names
    ]


def spdx(name: str) -> str:
    """Give the identifier that SPDX has for a licence, or else the name as it is."""
    if match := GNU.fullmatch(name):
        family, major, minor, later = match.groups()
        suffix = "or-later" if later else "only"
        return f"{family.upper()}-{major}{minor or '.0'}-{suffix}"
    return OTHERS.get(name.lower(), name)
