"""Every example, with both versions of Helm, against every supported version of Kubernetes."""

from __future__ import annotations

import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.chart.helm import (
    CHART,
    EXAMPLES,
    Helm,
    Refused,
    StrictLoader,
    of_kind,
    only,
    pods,
    server,
    workload,
)
from tests.chart.validation import KUBERNETES, problems

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.chart.helm import Manifest

SINGLE = ["minimal", "production", "mtls-only", "air-gapped"]
ALL = ["", *SINGLE, "subchart"]


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example of a chart that has this one as its dependency, with the dependency in it."""
    directory = tmp_path_factory.mktemp("parent") / "portal"
    shutil.copytree(EXAMPLES / "subchart", directory)
    return directory


@pytest.fixture(scope="session")
def rendered(helm: Helm, parent: Path) -> Callable[[str, str], list[Manifest]]:
    """Renders an example for a version of Kubernetes."""

    def render(example: str, kubernetes: str) -> list[Manifest]:
        if example == "subchart":
            link_dependency(helm, parent)
            return helm.render(chart=parent, kubernetes=kubernetes)
        return helm.render(example=example, kubernetes=kubernetes)

    return render


def link_dependency(helm: Helm, parent: Path) -> None:
    """Put the chart into its parent, as `helm dependency build` does from a repository."""
    if not (parent / "charts").exists():
        chart = yaml.safe_load((parent / "Chart.yaml").read_text())
        chart["dependencies"][0]["repository"] = f"file://{CHART}"
        (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
        helm.run("dependency", "update", parent)


@pytest.mark.parametrize("kubernetes", KUBERNETES)
@pytest.mark.parametrize("example", ALL)
def test_is_valid(
    rendered: Callable[[str, str], list[Manifest]], example: str, kubernetes: str
) -> None:
    manifests = rendered(example, kubernetes)
    assert len(pods(manifests)) >= 1
    assert list(problems(manifests, kubernetes)) == []


@pytest.mark.parametrize("example", ["", *SINGLE])
def test_passes_strict_lint(helm: Helm, example: str) -> None:
    values = [f"--values={EXAMPLES / f'{example}.yaml'}"] if example else []
    assert "0 chart(s) failed" in helm.run("lint", "--strict", CHART, *values)


def test_both_versions_of_helm_render_the_same(tools: Path) -> None:
    for example in ["", *SINGLE]:
        one, other = (
            sorted(Helm(tools / name).render(example=example), key=str)
            for name in ("helm-3", "helm-4")
        )
        assert one == other


def test_parent_gives_registry_and_pull_secrets(
    rendered: Callable[[str, str], list[Manifest]],
) -> None:
    manifests = rendered("subchart", "1.37")
    assert server(manifests)["image"].startswith("registry.example.org/kotaemon-grpc:")
    spec = workload(manifests)["spec"]["template"]["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert workload(manifests)["metadata"]["name"] == "agents"


def test_parent_can_leave_the_chart_out(helm: Helm, parent: Path) -> None:
    link_dependency(helm, parent)
    assert helm.run("template", "x", parent, values={"agents": {"enabled": False}}).strip() == ""


def test_one_parent_may_have_it_twice_under_other_names(helm: Helm, tmp_path: Path) -> None:
    chart = yaml.safe_load((EXAMPLES / "subchart" / "Chart.yaml").read_text())
    (dependency,) = chart["dependencies"]
    dependency |= {"repository": f"file://{CHART}", "condition": ""}
    chart["dependencies"] = [dependency | {"alias": name} for name in ("staff", "public")]
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(chart))
    helm.run("dependency", "update", tmp_path)
    values = {
        "nameOverride": "umbrella",  # the parent's own
        "global": {"imageRegistry": "r.example", "imagePullSecrets": "one", "other": {"a": [1]}},
        "staff": {"nameOverride": "people", "replicas": 0},
        "public": {"storage": {"kind": "none"}, "replicas": 3},
    }
    manifests = helm.render(values, chart=tmp_path, release="x" * 53)
    # Names are cut, and those of one parent differ all the same.
    own = [each for each in manifests if each["kind"] in {"StatefulSet", "Deployment"}]
    assert len({each["metadata"]["name"] for each in own}) == 2
    names = [each["metadata"]["labels"]["app.kubernetes.io/name"] for each in own]
    assert sorted(names) == ["people", "public"]
    for each in own:
        spec = each["spec"]["template"]["spec"]
        assert spec["containers"][0]["image"].startswith("r.example/kotaemon-grpc:")
        assert spec["imagePullSecrets"] == [{"name": "one"}]
    with pytest.raises(Refused, match="one server at a time"):
        helm.render(values | {"staff": {"replicas": 2}}, chart=tmp_path)


def test_lines_have_no_spaces_at_their_ends(helm_4: Helm) -> None:
    for example in SINGLE:
        text = helm_4.run("template", "agents", CHART, f"--values={EXAMPLES / f'{example}.yaml'}")
        # Blank lines of the settings file are as far in as the file is.
        lines = [line for line in text.splitlines() if line.strip()]
        assert [line for line in lines if line != line.rstrip()] == []


def test_package_installs_like_the_folder(helm: Helm, tmp_path: Path) -> None:
    helm.run("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    assert helm.render(chart=package) == helm.render()
    assert package.stat().st_size < 200_000
    with tarfile.open(package) as archive:
        packed = archive.getnames()
    # Whoever has the package alone has the examples that the README speaks of.
    for path in EXAMPLES.rglob("*"):
        if path.is_file():
            assert f"kotaemon-grpc/{path.relative_to(CHART)}" in packed


def test_air_gapped_lets_nothing_out_but_names(helm_4: Helm) -> None:
    manifests = helm_4.render(example="air-gapped")
    policy = only(manifests, "NetworkPolicy", "agents")
    assert policy["spec"]["egress"] == [
        {
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            "to": [{"ipBlock": {"cidr": "10.96.0.10/32"}}],
        }
    ]
    for _, _, spec in pods(manifests):
        for container in spec["containers"]:
            assert container["image"].startswith("registry.internal:5000/")
            assert "@sha256:" in container["image"]


def test_notes_are_written_for_every_example(helm_4: Helm) -> None:
    for example in SINGLE:
        values = f"--values={EXAMPLES / f'{example}.yaml'}"
        notes = helm_4.run(
            "install", "agents", CHART, values, "--dry-run=client", "--namespace=agents"
        ).partition("NOTES:")[2]
        assert "agents" in notes
        assert "<no value>" not in notes
        assert "%!" not in notes


def test_strict_loader_sees_what_is_written_twice() -> None:
    with pytest.raises(yaml.YAMLError, match="twice"):
        yaml.load("{a: 1, a: 2}", StrictLoader)  # noqa: S506 - it is a safe one


def test_mtls_only_shows_certificates_to_the_server_alone(helm_4: Helm) -> None:
    manifests = helm_4.render(example="mtls-only")
    assert of_kind(manifests, "GRPCRoute", "Ingress") == []
    route = only(manifests, "TLSRoute")
    assert route["spec"]["rules"] == [{"backendRefs": [{"name": "agents", "port": 50051}]}]
    endpoint = only(manifests, "ServiceMonitor")["spec"]["endpoints"][0]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["cert"]["secret"]["name"] == "prometheus-client"
