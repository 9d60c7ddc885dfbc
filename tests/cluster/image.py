"""The image that is tried: the one that $IMAGE names, or one that is built."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass

import pytest
from tests.chart.helm import ROOT

BASE_MISSING = 3  # the exit status of scripts/image when there is no base to be had


@dataclass(frozen=True)
class Image:
    """An image, and what is known of it.

    Args:
        name: its reference, with a tag or a digest.
        tool: what built it, or nothing.
        compressed_bytes: as a registry has it, or None if it was not built here.
    """

    name: str
    tool: str = ""
    compressed_bytes: int | None = None

    @property
    def values(self) -> dict[str, str | list[str]]:
        """The values of the chart that name it."""
        name, _, digest = self.name.partition("@")
        path, _, last = name.rpartition("/")
        repository, _, tag = last.partition(":")
        return {
            "registry": path,
            "repository": repository,
            "tag": tag,
            "digest": digest,
            "pullPolicy": "IfNotPresent",
            "pullSecrets": [],
        }


def obtain() -> Image:
    """Take the image that $IMAGE names, or build one."""
    given = os.environ.get("IMAGE")
    if given:
        return Image(given)
    done = _script("image")
    if done.returncode == BASE_MISSING and not os.environ.get("BASE"):
        base = _script("image-base")
        if base.returncode:
            pytest.exit("no base for the image: the last lines above say why", 1)
        done = _script("image", f"--base={base.stdout.splitlines()[-1]}")
    if done.returncode:
        pytest.exit("the image was not built: the last lines above say why", 1)
    built = json.loads(done.stdout.splitlines()[-1])
    return Image(built["image"], built["tool"], built["compressed_bytes"])


def _script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / name, *arguments], stdout=subprocess.PIPE, text=True, check=False
    )
