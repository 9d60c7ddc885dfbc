"""The server takes what the chart writes: the rendered file goes to the real command."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import settings_text

from kotaemon_grpc.config.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm

COMMAND = [sys.executable, "-c", "from kotaemon_grpc.cli import main; main()"]

ISSUER = {
    "name": "staff",
    "issuer": "https://login.example.org",
    "audiences": ["a"],
    "jwks": "/etc/kotaemon-grpc-files/staff/jwks.json",
    "required_claims": {"azp": ["portal"], "level": 3, "active": True},
    "roles_by_scope": {"agents.ask": ["user"]},
}
EVERYTHING: dict[str, Any] = {
    "bindAddress": "[::]",
    "credentials": ["certificate+jwt", "certificate+api_key"],
    "listeners": [
        {"name": "tokens", "port": 50061, "credentials": ["jwt"], "minVersion": "1.3"},
        {"name": "own", "port": 50071, "credentials": ["certificate"], "secretName": "own"},
    ],
    "apiKeys": {"existingSecret": "keys"},
    "documents": {"configMap": {"name": "handbook"}},
    "files": {"staff": {"existingConfigMap": "jwks"}},
    "tls": {
        "minVersion": "1.3",
        "clientCA": {"existingSecret": "cas"},
        "certManager": {"enabled": True, "issuerRef": {"name": "i"}, "client": {"enabled": True}},
    },
    "operations": {"tls": {"enabled": True, "secretName": "ops", "clientCertificates": True}},
    "shutdown": {"delaySeconds": 0.5, "graceSeconds": 120},
    "config": {
        "server": {
            "reflection": False,
            "max_message_bytes": 67108864,
            "max_connection_idle_s": 0.1,
        },
        "identity": {
            "issuers": [ISSUER],
            "certificates": [{"pattern": r'dns:(?P<a>[a-z]+)\.b"c\\', "principal": "s:{a}"}],
            "max_cached": 1000000,
        },
        "policy": {
            "roles": {"importer": {"methods": ["kotaemon.v2.DocumentService/*"], "audited": True}},
            "bindings": [{"principals": ["*"], "roles": ["importer"], "tenants": ["a*"]}],
        },
        "limits": {"calls_per_second": 0.5, "default_deadline_s": 30, "max_waiting": 0},
        "documents": {"import_paths": ["/srv/more documents"], "max_document_bytes": 2147483647},
        "conversations": {"retention_days": 0},
        "log": {"level": "warning", "sample_ok": 0.001},
        "traces": {"endpoint": "collector:4317", "insecure": True, "sample_ratio": 1},
    },
}


def check(path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "config", "check", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", ["", "minimal", "production", "mtls-only", "air-gapped"])
def test_command_takes_the_settings_of_examples(helm: Helm, tmp_path: Path, example: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(settings_text(helm.render(example=example)))
    check(path)


def test_command_takes_every_setting_that_the_chart_writes(helm: Helm, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(settings_text(helm.render(EVERYTHING)))
    check(path)
    config = load(file=path, environ={}, flags={})
    assert str(config.server.listen) == "[::]:50051"
    assert [str(each.listen) for each in config.server.listeners] == ["[::]:50061", "[::]:50071"]
    assert config.server.max_message_bytes == 67108864
    assert config.server.shutdown_delay_s == 0.5
    assert config.identity.certificates[0].pattern == r'dns:(?P<a>[a-z]+)\.b"c\\'
    assert config.identity.issuers[0].required_claims["level"] == 3
    assert config.limits.calls_per_second == 0.5
    assert len(config.policy.bindings) == 2
    assert str(config.documents.import_paths[1]) == "/srv/more documents"
    assert not config.tls.is_development


def test_check_would_see_a_wrong_setting(helm_4: Helm, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(settings_text(helm_4.render()).replace("health_listen", "health_lisen"))
    with pytest.raises(AssertionError, match="health_lisen"):
        check(path)


@pytest.mark.parametrize(
    "text", ['"', "\\", "a\nb", "\t", "\x7f", "<&>", "é漢😀", "\u2028", "''", "#", "{{ .Values }}"]
)
def test_text_comes_through_as_it_was_written(helm: Helm, text: str) -> None:
    rule = {"pattern": text, "roles": [text]}
    values = {"config": {"identity": {"certificates": [rule]}, "traces": {"ca": text}}}
    written = tomllib.loads(settings_text(helm.render(values)))
    assert written["identity"]["certificates"] == [rule]
    assert written["traces"]["ca"] == text
