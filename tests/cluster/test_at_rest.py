"""What a release costs that nobody has called yet: these tests run first."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster
    from tests.cluster.image import Image

    Figures = list[tuple[str, str, str]]

MAX_COMPRESSED_MB = 150
MAX_RESIDENT_MB = 150
MAX_READY_S = 3


def test_pods_are_ready_soon(cluster: Cluster, figures: Figures) -> None:
    for pod in cluster.pods():
        ready_s = cluster.seconds_to_ready(pod)
        figures.append(("seconds from start to ready", f"{ready_s:.1f}", f"{MAX_READY_S}"))
        assert ready_s <= MAX_READY_S


def test_memory_at_idle_is_small(cluster: Cluster, figures: Figures) -> None:
    for pod in cluster.pods():
        status = cluster.run_inside(pod, "print(open('/proc/1/status').read())")
        resident_mb = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6
        figures.append(("resident memory at idle, MB", f"{resident_mb:.0f}", f"{MAX_RESIDENT_MB}"))
        assert resident_mb <= MAX_RESIDENT_MB


def test_image_is_small(image: Image, figures: Figures) -> None:
    if image.compressed_bytes is None:
        pytest.skip("the image was not built here, but named by IMAGE")
    compressed_mb = image.compressed_bytes / 1e6
    figures.append(("compressed image, MB", f"{compressed_mb:.0f}", f"{MAX_COMPRESSED_MB}"))
    assert compressed_mb <= MAX_COMPRESSED_MB
