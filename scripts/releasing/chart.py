"""The chart of a release: it names its image by digest, and is signed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import TYPE_CHECKING

import yaml

from releasing import image
from releasing.program import Refused, run

if TYPE_CHECKING:
    from pathlib import Path

    from releasing.signing import SigningKey

NAME = "kotaemon-grpc"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def refuse_another_version(chart: Path, version: str) -> None:
    """See that the chart is of the version.

    Raises:
        Refused: its own version or that of the application is another.
    """
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    for key in ("version", "appVersion"):
        if about[key] != version:
            raise Refused(f"{key} of the chart is {about[key]}, and pyproject.toml has {version}")


def record_image(
    chart: Path, version: str, digest: str, registry: str | None, epoch_s: int
) -> None:
    """Write into a copy of the chart which image it installs.

    Args:
        chart: the copy.
        version: the tag of the image.
        digest: the image's; no other one can stand behind the signed chart then.
        registry: where the image is pulled from unless the values name another; None leaves that
            to the values.
        epoch_s: the time of the files, in seconds since 1970, which Helm 4 packages with them.
    """
    name = f"{registry}/{NAME}" if registry else NAME
    replace(chart / "Chart.yaml", f"image: {NAME}:{version}", f"image: {name}:{version}@{digest}")
    replace(chart / "values.yaml", '\n  digest: ""\n', f'\n  digest: "{digest}"\n')
    row = "| `image.digest` | `"
    replace(chart / "README.md", f'{row}""`', f'{row}"{digest}"`')
    if registry is not None:
        record_registry(chart, registry)
    for each in chart.rglob("*"):
        os.utime(each, (epoch_s, epoch_s))


def record_registry(chart: Path, registry: str) -> None:
    """Write where the image is, in the least binding place: other values win, a parent's too."""
    values = chart / "values.yaml"
    if "global" in yaml.safe_load(values.read_text()):
        raise Refused("the chart's values have a global section, where the registry would go")
    with values.open("a") as file:
        file.write(
            "\n# Where the image of this release is. `image.registry` goes before it.\n"
            f"global:\n  imageRegistry: {registry}\n"
        )
    replace(chart / "README.md", "oci://registry.example.org/charts", f"oci://{registry}/charts")


def replace(path: Path, old: str, new: str) -> None:
    """Replace the one place of a text in a file.

    Raises:
        Refused: it is not there, or more than once.
    """
    text = path.read_text()
    if text.count(old) != 1:
        raise Refused(
            f"{path.name} of the chart has {old.strip()} {text.count(old)} times, not once"
        )
    path.write_text(text.replace(old, new))


def package(helm: Path, chart: Path, target: Path, key: SigningKey | None) -> Path:
    """Package the chart, sign it if there is a key, and verify what was signed."""
    signing = []
    if key is not None:
        signing = [
            "--sign", f"--key={key.user}", f"--keyring={key.secret_keyring()}",
            f"--passphrase-file={key.passphrase_file}",
        ]  # fmt: skip
    said = run(helm, "package", chart, f"--destination={target}", *signing)
    match = re.search(r"saved it to: (.+)", said)
    if match is None:
        raise Refused(f"helm does not say what it has packaged: {said}")
    packaged = target / match[1].rpartition("/")[2]
    if key is not None:
        run(helm, "verify", packaged, f"--keyring={key.public_keyring()}")
    return packaged


def refuse_another(packaged: Path, registry: str, version: str, *, plain_http: bool) -> bool:
    """See that a registry has no other chart of a version, and say whether it has this one.

    Raises:
        Refused: it has another, or it does not answer.
    """
    # A tag has no plus sign, and Helm writes an underscore.
    name = f"charts/{NAME}:{version.replace('+', '_')}"
    said = image.inspected(registry, name, "--raw", plain_http=plain_http)
    if said is None:
        return False
    try:
        layers = json.loads(said)["layers"]
        found = [each["digest"] for each in layers if each["mediaType"] == CONTENT]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{registry} has something else than a chart as {name}") from error
    if found != [f"sha256:{hashlib.sha256(packaged.read_bytes()).hexdigest()}"]:
        raise Refused(f"{registry} has another chart of {version}")
    return True


def push(helm: Path, packaged: Path, registry: str, version: str, *, plain_http: bool) -> str:
    """Push the chart, and its provenance that lies beside it; gives where they are.

    Raises:
        Refused: the registry takes none, or has another one of the version, before or after.
    """
    refuse_another(packaged, registry, version, plain_http=plain_http)
    where = f"oci://{registry}/charts"
    try:
        run(helm, "push", packaged, where, *(["--plain-http"] if plain_http else []))
    except Refused as error:
        raise Refused(f"the registry {registry} refuses the chart: {error}") from error
    if not refuse_another(packaged, registry, version, plain_http=plain_http):
        raise Refused(f"{registry} does not have the chart that was pushed")
    return f"{where}/{NAME}"
