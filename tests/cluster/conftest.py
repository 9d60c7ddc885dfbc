"""The release of the chart's production example, as it runs.

By default podman runs the rendered pods; with $KUBECONFIG, Helm installs the release in that
cluster. $IMAGE names an image to take instead of building one.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.chart.conftest import tools_directory
from tests.chart.helm import ROOT, Helm
from tests.cluster import image as images
from tests.cluster import release
from tests.cluster.cluster import Given
from tests.cluster.issuer import Issuer, tls_files
from tests.cluster.kubernetes import Kubernetes
from tests.cluster.podman import Podman

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster
    from tests.cluster.image import Image

    from kotaemon_grpc.client import TlsFiles

HANDBOOKS = ROOT / "tests" / "corpus" / "en"
FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Say what is missing at once, and not once for each test."""
    config.stash[FIGURES] = []
    # A run that is terminated tidies up as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not (tools_directory() / "helm-4").exists():
        raise pytest.UsageError(
            'Helm and kubectl are missing; run "make chart-e2e", which fetches them'
        )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured."""
    figures = config.stash[FIGURES]
    if figures:
        terminalreporter.section("figures")
        for row in (("what", "measured", "limit"), *figures):
            terminalreporter.write_line("{:<48} {:>12}   {}".format(*row))


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> list[tuple[str, str, str]]:
    """What was measured: what it is, the figure, and its limit."""
    return pytestconfig.stash[FIGURES]


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Image:
    """The image that the pods run."""
    # A build takes minutes: what it says goes to the terminal.
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        return images.obtain()


@pytest.fixture(scope="session")
def manifests(image: Image) -> list[Manifest]:
    """The release, as it is rendered."""
    return release.render(Helm(tools_directory() / "helm-4"), image)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    """Who issues certificates here."""
    return Issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def given(manifests: list[Manifest], issuer: Issuer) -> Given:
    """What the release needs from others."""
    certificates = release.server_certificate(manifests), release.client_certificate(manifests)
    return Given(
        secrets={each["spec"]["secretName"]: issuer.secret(each) for each in certificates},
        config_maps={"collector-ca": {"ca.crt": issuer.ca.read_bytes()}},
        documents={path.name: path.read_bytes() for path in HANDBOOKS.iterdir()},
    )


@pytest.fixture(scope="session")
def cluster(image: Image, manifests: list[Manifest], given: Given) -> Iterator[Cluster]:
    """What runs the release."""
    # Not pytest's own directory, which is kept, and has names too long for sockets.
    scratch = Path(tempfile.mkdtemp(prefix="kotaemon-grpc-e2e-"))
    kind = Kubernetes if os.environ.get("KUBECONFIG") else Podman
    running = kind(scratch, manifests, given, image)
    try:
        running.prepare()
        yield running
    finally:
        running.close()


@pytest.fixture(scope="session")
def client_tls(
    manifests: list[Manifest], given: Given, tmp_path_factory: pytest.TempPathFactory
) -> TlsFiles:
    """The files of the client that the release knows."""
    name = release.client_certificate(manifests)["spec"]["secretName"]
    return tls_files(given.secrets[name], tmp_path_factory.mktemp("client") / "tls")


@pytest.fixture(scope="session")
def server_name(manifests: list[Manifest]) -> str:
    """The name that the server's certificate is for."""
    return release.server_certificate(manifests)["spec"]["dnsNames"][0]
