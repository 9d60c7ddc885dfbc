"""What is wrong with rendered objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonschema
import kubernetes_validate
from tests.chart import restricted
from tests.chart.custom_resources import SPECS
from tests.chart.helm import NAMESPACE, of_kind, pods

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.helm import Manifest

KUBERNETES = [f"1.{minor}" for minor in range(27, 38)]
_MAX_NAME = 63  # of a Service, RFC 1035; and of what becomes the value of a label


def problems(manifests: list[Manifest], kubernetes: str) -> Iterator[str]:
    """Tell all that is wrong with what was rendered for a version of Kubernetes."""
    for manifest in manifests:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        yield from (f"{name}: {problem}" for problem in schema_problems(manifest, kubernetes))
        yield from (f"{name}: {problem}" for problem in _metadata_problems(manifest))
    seen = [(each["apiVersion"], each["kind"], each["metadata"]["name"]) for each in manifests]
    yield from (f"{each} is there twice" for each in set(seen) if seen.count(each) > 1)
    for name, metadata, spec in pods(manifests):
        yield from (f"{name}: {problem}" for problem in restricted.violations(metadata, spec))
        yield from (f"{name}: {problem}" for problem in _pod_problems(spec))
    yield from _selector_problems(manifests)


def schema_problems(manifest: Manifest, kubernetes: str) -> Iterator[str]:
    """Hold an object to the schema of its kind, in strict mode: an unknown key is an error."""
    spec = SPECS.get((manifest["apiVersion"], manifest["kind"]))
    try:
        if spec is not None:
            jsonschema.validate(manifest["spec"], spec)
        else:
            kubernetes_validate.validate(manifest, kubernetes, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        yield f"{list(error.path)}: {error.message}"[:500]


def _metadata_problems(manifest: Manifest) -> Iterator[str]:
    metadata = manifest["metadata"]
    if metadata.get("namespace") != NAMESPACE:
        yield "it has no namespace"
    if manifest["kind"] == "Service" and len(metadata["name"]) > _MAX_NAME:
        yield "its name is too long"
    for key, value in metadata.get("labels", {}).items():
        if len(value) > _MAX_NAME:
            yield f"the label {key} is too long"


def _pod_problems(spec: Manifest) -> Iterator[str]:
    if spec.get("automountServiceAccountToken") is not False:
        yield "it gets a token"
    volumes = [each["name"] for each in spec.get("volumes", [])]
    yield from (f"volume {name} is there twice" for name in volumes if volumes.count(name) > 1)
    for container in spec["containers"]:
        mounts = container.get("volumeMounts", [])
        paths = [each["mountPath"] for each in mounts]
        yield from (f"{path} is mounted twice" for path in paths if paths.count(path) > 1)
        yield from (f"{each['mountPath']} is a single file" for each in mounts if "subPath" in each)


def _selector_problems(manifests: list[Manifest]) -> Iterator[str]:
    """Everything that selects pods must select those of the server."""
    running = of_kind(manifests, "StatefulSet", "Deployment")
    labels = [each["spec"]["template"]["metadata"]["labels"].items() for each in running]
    selectors = {
        **{
            f"Service/{_name(each)}": each["spec"]["selector"]
            for each in of_kind(manifests, "Service")
        },
        **{
            f"{each['kind']}/{_name(each)}": each["spec"]["selector"]["matchLabels"]
            for each in of_kind(manifests, "PodDisruptionBudget", "StatefulSet", "Deployment")
        },
    }
    for name, selector in selectors.items():
        if not any(selector.items() <= each for each in labels):
            yield f"{name} selects no pod"


def _name(manifest: Manifest) -> str:
    return manifest["metadata"]["name"]
