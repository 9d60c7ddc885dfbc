"""The probes that were rendered, asked as the kubelet asks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.chart.helm import server
from tests.cluster.cluster import is_ready

if TYPE_CHECKING:
    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster


@pytest.mark.parametrize("kind", ["startup", "readiness", "liveness"])
def test_probe_succeeds(cluster: Cluster, manifests: list[Manifest], kind: str) -> None:
    probe = server(manifests)[f"{kind}Probe"]
    asked = probe["grpc"]
    for pod in cluster.pods():
        address = cluster.address(pod, asked["port"])
        assert is_ready(address, asked.get("service", ""), probe["timeoutSeconds"])
