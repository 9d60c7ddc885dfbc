"""The release that is tried: the chart's production example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.chart.helm import only, workload

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest
    from tests.cluster.image import Image

EXAMPLE = "production"
NAME = "agents"
GRPC = 50051
OPERATIONS = 9464


def values(image: Image) -> dict[str, Any]:
    """Name what the example cannot know: the image, and a scale that fits a small machine."""
    return {
        "image": image.values,
        "autoscaling": {"minReplicas": 2, "maxReplicas": 2},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
    }


def render(helm: Helm, image: Image) -> list[Manifest]:
    """Render it."""
    return helm.render(values(image), example=EXAMPLE, release=NAME)


def server_certificate(manifests: list[Manifest]) -> Manifest:
    """Give the Certificate of the server."""
    return only(manifests, "Certificate", workload(manifests)["metadata"]["name"])


def client_certificate(manifests: list[Manifest]) -> Manifest:
    """Give the Certificate of the client."""
    return only(manifests, "Certificate", "-client")
