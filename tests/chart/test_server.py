"""A real server on what the chart renders: its settings, and its Secrets where they are mounted."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.chart.helm import server as server_of
from tests.chart.helm import settings_text

from kotaemon_grpc.client import AgentClient, TlsFiles
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm

PORTAL = "spiffe://example.org/portal"
VALUES: dict[str, Any] = {
    "tls": {
        "minVersion": "1.3",
        "clientCA": {"existingSecret": "cas", "key": "bundle.pem"},
    },
    "operations": {"tls": {"enabled": True, "secretName": "ops"}},
    "listeners": [{"name": "keys", "port": 50061, "credentials": ["api_key"], "secretName": "own"}],
    "apiKeys": {"inline": '{"version": 1, "keys": []}'},
    "documents": {"configMap": {"name": "handbook"}},
    "shutdown": {"delaySeconds": 0, "graceSeconds": 1},
    "config": {
        "policy": {"bindings": [{"principals": [PORTAL], "roles": ["user"]}]},
        "log": {"level": "debug"},
    },
}


@pytest.fixture
def mounted(helm_4: Helm, tmp_path: Path, certs: Path) -> Path:
    """A directory that is to the server what the file system of the pod is."""
    manifests = helm_4.render(VALUES)
    root = tmp_path / "root"
    for mount in server_of(manifests)["volumeMounts"]:
        (root / mount["mountPath"].lstrip("/")).mkdir(parents=True)
    files = root / "etc/kotaemon-grpc-files"
    for name in ("tls", "operations", "tls-keys"):
        (files / name / "tls.crt").write_bytes((certs / "server.pem").read_bytes())
        (files / name / "tls.key").write_bytes((certs / "server-key.pem").read_bytes())
    (files / "client-ca/bundle.pem").write_bytes((certs / "ca.pem").read_bytes())
    (files / "api-keys/api-keys.json").write_text(VALUES["apiKeys"]["inline"])
    # A ConfigMap is a directory of links into another one, which is replaced as a whole.
    documents = root / "srv/documents"
    (documents / "..2026").mkdir()
    (documents / "..2026/handbook.md").write_text("# Loans\n\nThe branch manager signs loans.\n")
    (documents / "..data").symlink_to("..2026")
    (documents / "handbook.md").symlink_to("..data/handbook.md")
    text = settings_text(manifests)
    for place in ("/etc/kotaemon-grpc-files", "/var/lib/kotaemon-grpc", "/srv/documents"):
        text = text.replace(f'"{place}', f'"{root}{place}')
    for port in ("50051", "50052", "9464", "50061"):
        text = text.replace(f'"0.0.0.0:{port}"', '"127.0.0.1:0"')
    (root / "etc/kotaemon-grpc/config.toml").write_text(text)
    return root


async def test_server_serves_what_is_rendered(
    mounted: Path, certs: Path, tmp_path: Path, serving_type: type[Any]
) -> None:
    config = mounted / "etc/kotaemon-grpc/config.toml"
    serving = serving_type(f"--config={config}", data_dir=tmp_path / "data", certs=certs)
    try:
        certificate, key = pki.issue(
            certs, "portal", Subject("portal", spiffe=PORTAL), out=tmp_path
        )
        portal = TlsFiles(certs / "ca.pem", certificate, key)
        async with AgentClient(serving.address, tls=portal) as client:
            answer = await client.ask("Who signs loans?")
            assert "branch manager" in answer.text
            assert answer.citations
        async with grpc.aio.insecure_channel(serving.health_address) as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest()
            )
            assert health.status == health_pb2.HealthCheckResponse.SERVING
        trust = ssl.create_default_context(cafile=str(certs / "ca.pem"))
        with urlopen(f"https://{serving.operations_address}/metrics", context=trust) as page:  # noqa: ASYNC210 - our own server, and nothing else to do
            assert b"kotaemon_grpc_build_info" in page.read()
    finally:
        assert serving.stop() == 0
