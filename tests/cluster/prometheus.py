"""A real Prometheus, on what the release renders for the Prometheus operator."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from tests.chart.helm import as_yaml, of_kind, only, server
from tests.cluster.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Manifest

START_LIMIT_S = 30


def endpoint(manifests: list[Manifest]) -> tuple[Manifest, int]:
    """Find the Service that the ServiceMonitor leads to, and the port of its pods."""
    spec = only(manifests, "ServiceMonitor")["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    (service,) = [
        each
        for each in of_kind(manifests, "Service")
        if wanted <= each["metadata"]["labels"].items()
        and each["metadata"]["namespace"] in spec["namespaceSelector"]["matchNames"]
    ]
    (asked,) = spec["endpoints"]
    (of_service,) = [each for each in service["spec"]["ports"] if each["name"] == asked["port"]]
    (port,) = [
        each["containerPort"]
        for each in server(manifests)["ports"]
        if each["name"] == of_service["targetPort"]
    ]
    return service, port


def configuration(manifests: list[Manifest], targets: dict[str, str]) -> dict[str, Any]:
    """Write what the operator writes for the ServiceMonitor, with targets that are known.

    Args:
        manifests: the release.
        targets: the addresses of the operations ports, by pod.
    """
    (asked,) = only(manifests, "ServiceMonitor")["spec"]["endpoints"]
    service, _ = endpoint(manifests)
    metadata = service["metadata"]
    labels = {
        "namespace": metadata["namespace"],
        "service": metadata["name"],
        "endpoint": asked["port"],
        "container": "server",
    }
    job = {
        "job_name": metadata["name"],  # the operator's default for the label "job"
        "scrape_interval": asked["interval"],
        "scrape_timeout": asked["scrapeTimeout"],
        "metrics_path": asked["path"],
        "scheme": asked["scheme"],
        "static_configs": [
            {"targets": [address], "labels": {**labels, "pod": pod}}
            for pod, address in targets.items()
        ],
    }
    return {
        # How often rules are looked at is no matter of the chart's.
        "global": {"evaluation_interval": "5s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }


class Prometheus:
    """A Prometheus that runs here."""

    def __init__(self, directory: Path, manifests: list[Manifest], targets: dict[str, str]) -> None:
        """Start it.

        Args:
            directory: what it reads and writes.
            manifests: the release.
            targets: the addresses of the operations ports, by pod.
        """
        program = shutil.which("prometheus")
        if program is None:
            pytest.fail('Prometheus is missing; run "apt-get install prometheus"')
        settings = configuration(manifests, targets)
        (directory / "prometheus.yaml").write_text(as_yaml(settings))
        rules = only(manifests, "PrometheusRule")["spec"]
        (directory / "rules.yaml").write_text(as_yaml(rules))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = "{}:{}".format(*free.getsockname())
        self._log = (directory / "log").open("w+")
        self._process = subprocess.Popen(
            [
                program,
                f"--config.file={directory}/prometheus.yaml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={self._address}",
                "--log.level=warn",
            ],
            stderr=self._log,
        )
        until("Prometheus is ready", self._is_ready, START_LIMIT_S)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API, and return the data of the answer."""
        url = f"http://{self._address}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url) as page:
            answer = json.load(page)
        assert answer["status"] == "success", answer
        return answer["data"]

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            self._log.seek(0)
            pytest.fail(f"Prometheus ended: {self._log.read()}")
        try:
            with urlopen(f"http://{self._address}/-/ready") as page:
                return page.status == 200
        except URLError:
            return False
