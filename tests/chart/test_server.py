"""A real server on what the chart renders: its settings, and its Secrets where they are mounted."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.chart.helm import only, settings_text
from tests.chart.helm import server as server_of

from kotaemon_grpc.client import AgentClient, TlsFiles
from kotaemon_grpc.transport import pki
from kotaemon_grpc.transport.certificate import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm, Manifest

COMMAND = [sys.executable, "-c", "from kotaemon_grpc.cli import main; main()"]
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


# The test of a release, which calls the main listener, with each kind of credential.
ASKED: dict[str, dict[str, Any]] = {
    "certificate": VALUES | {"test": {"secretName": "mine"}},
    "api_key": VALUES
    | {
        "credentials": ["api_key"],
        "listeners": [],
        "test": {"secretName": "mine"},
        "tls": {"minVersion": "1.3"},
    },
}


def put_files(root: Path, manifests: list[Manifest], certs: Path) -> Path:
    """Make a directory that is to the server what the file system of the pod is."""
    for mount in server_of(manifests)["volumeMounts"]:
        (root / mount["mountPath"].lstrip("/")).mkdir(parents=True)
    files = root / "etc/kotaemon-grpc-files"
    for name in {"tls", "operations", "tls-keys"} & {each.name for each in files.iterdir()}:
        (files / name / "tls.crt").write_bytes((certs / "server.pem").read_bytes())
        (files / name / "tls.key").write_bytes((certs / "server-key.pem").read_bytes())
    if (files / "client-ca").exists():
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
    config = root / "etc/kotaemon-grpc/config.toml"
    config.write_text(text)
    return config


def put_client(directory: Path, certs: Path, api_key: str) -> None:
    """Make a directory of what the Secret of the test holds."""
    directory.mkdir()
    certificate, key = pki.issue(certs, "portal", Subject("portal", spiffe=PORTAL), out=directory)
    certificate.rename(directory / "tls.crt")
    key.rename(directory / "tls.key")
    (directory / "ca.crt").write_bytes((certs / "ca.pem").read_bytes())
    (directory / "api-key").write_text(api_key)


def run(*arguments: str) -> str:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("credential", ASKED)
def test_test_of_the_release_gets_through(
    helm_4: Helm, tmp_path: Path, certs: Path, serving_type: type[Any], credential: str
) -> None:
    manifests = helm_4.render(ASKED[credential])
    config = put_files(tmp_path / "root", manifests, certs)
    keys = tmp_path / "root" / "etc/kotaemon-grpc-files/api-keys/api-keys.json"
    made = run("keys", "create", "--principal=portal", "--role=user", f"--file={keys}", "--json")
    put_client(tmp_path / "client", certs, json.loads(made)["key"])
    serving = serving_type(f"--config={config}", data_dir=tmp_path / "data", certs=certs)
    try:
        (container,) = only(manifests, "Pod")["spec"]["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "client"]
        arguments = [
            each.replace(mount["mountPath"], str(tmp_path / "client")) for each in container["args"]
        ]
        arguments[arguments.index("--target") + 1] = serving.address
        assert "handbook" in run(*arguments)
    finally:
        assert serving.stop() == 0


async def test_server_serves_what_is_rendered(
    helm_4: Helm, certs: Path, tmp_path: Path, serving_type: type[Any]
) -> None:
    config = put_files(tmp_path / "root", helm_4.render(VALUES), certs)
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
