"""Known vulnerabilities of what the image installs, by pip-audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from releasing import python_packages
from releasing.program import TOLD_LINES, Refused

if TYPE_CHECKING:
    from pathlib import Path


def audit(lock: Path, cache: Path, *, osv_url: str | None, accepted: list[str]) -> int:
    """Ask a database about each package of a lock file, and give their number.

    Args:
        lock: versions with hashes.
        cache: a directory for answers; an empty one asks for today's.
        osv_url: where an OSV service is asked; None asks PyPI.
        accepted: identifiers of vulnerabilities that do no harm here.

    Raises:
        Refused: a vulnerability is known, or the database does not know about every package.
    """
    service = ["--vulnerability-service=pypi"]
    if osv_url:
        service = ["--vulnerability-service=osv", f"--osv-url={osv_url}"]
    # The variables would say what is asked, and what is passed over.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_AUDIT_")}
    done = subprocess.run(
        [
            sys.executable, "-m", "pip_audit", f"--requirement={lock}",
            "--disable-pip", "--require-hashes", "--format=json", "--desc=off", "--aliases=on",
            "--progress-spinner=off", f"--cache-dir={cache}", *service,
            *(f"--ignore-vuln={each}" for each in accepted),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    way_out = "; with --without-audit the release is made unaudited"
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError as error:
        said = done.stderr.strip().rpartition("\n")[2]  # of a traceback, what went wrong
        raise Refused(
            f"the database of vulnerabilities is not reached{way_out}\n  {said}"
        ) from error
    # It counts what the database does not answer for as skipped, and not as a failure.
    if skipped := [each for each in dependencies if "skip_reason" in each]:
        listed = "".join(f"\n  {each['skip_reason']}" for each in skipped[:TOLD_LINES])
        raise Refused(
            f"the database of vulnerabilities does not know {len(skipped)} of "
            f"{len(dependencies)} packages{way_out}{listed}"
        )
    answered = {canonicalize_name(each["name"]) for each in dependencies}
    locked = python_packages.read_lock(lock.read_text())
    if missing := sorted(locked.keys() - answered):
        raise Refused(
            f"pip-audit answers for {len(answered)} of the {len(locked)} packages of {lock.name}, "
            f"and not for {', '.join(missing[:TOLD_LINES])}{way_out}"
        )
    if known := [f"\n  {told(each, vuln)}" for each in dependencies for vuln in each["vulns"]]:
        raise Refused(f"{len(known)} vulnerabilities are known in {lock.name}:{''.join(known)}")
    return len(dependencies)


def told(dependency: dict[str, str], vulnerability: dict[str, list[str]]) -> str:
    """Say which vulnerability a package has, and where it is gone."""
    names = ", ".join([str(vulnerability["id"]), *vulnerability["aliases"]])
    fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
    return f"{dependency['name']} {dependency['version']}: {names}; fixed in {fixed}"
