"""Where certificates, keys and other files come from."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tests.chart.helm import FILES, of_kind, only, server, settings_text, volumes, workload

if TYPE_CHECKING:
    from tests.chart.helm import Helm


def test_secrets_are_mounted_as_directories_that_the_group_reads(helm_4: Helm) -> None:
    manifests = helm_4.render(
        {
            "credentials": ["certificate+api_key"],
            "tls": {
                "secretName": "mine",
                "clientCA": {"existingConfigMap": "cas", "key": "bundle.pem"},
                "keyPassphrase": {"existingSecret": "pass"},
            },
            "apiKeys": {"existingSecret": "keys", "key": "all.json"},
            "files": {"model": {"existingSecret": "llm"}},
        }
    )
    found = volumes(manifests)
    for name, secret in {"tls": "mine", "api-keys": "keys", "model": "llm"}.items():
        assert found[f"files-{name}"]["secret"] == {
            "secretName": secret,
            "defaultMode": 0o440,
            "optional": False,
        }
    assert found["files-client-ca"]["configMap"]["name"] == "cas"
    assert workload(manifests)["spec"]["template"]["spec"]["securityContext"]["fsGroup"] == 10001
    text = settings_text(manifests)
    assert f'client_ca = "{FILES}/client-ca/bundle.pem"' in text
    assert f'api_keys_file = "{FILES}/api-keys/all.json"' in text
    (variable,) = server(manifests)["env"]
    assert variable["name"] == "KOTAEMON_GRPC_TLS__KEY_PASSPHRASE"
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "pass", "key": "passphrase"}


def test_inline_secrets_are_secrets(helm_4: Helm) -> None:
    manifests = helm_4.render(
        {
            "credentials": ["api_key"],
            "apiKeys": {"inline": "{}"},
            "files": {
                "model": {"inline": {"api-key": "geheim"}},
                "jwks": {"inline": {"jwks.json": "{}"}, "secret": False, "reloaded": True},
            },
            "tls": {"clientCA": {"inline": "PEM"}},
        }
    )
    secret = only(manifests, "Secret", "-model")
    assert base64.b64decode(secret["data"]["api-key"]) == b"geheim"
    assert only(manifests, "Secret", "-api-keys")["data"]["api-keys.json"] == "e30="
    assert only(manifests, "ConfigMap", "-jwks")["data"] == {"jwks.json": "{}"}
    # No listener asks for certificates, so nobody needs their CA.
    assert "client_ca" not in settings_text(manifests)
    assert "files-client-ca" not in volumes(manifests)
    assert "geheim" not in str([each for each in manifests if each["kind"] != "Secret"])


def test_chart_never_makes_a_certificate(helm_4: Helm) -> None:
    everything = {
        "tls": {
            "certManager": {
                "enabled": True,
                "issuerRef": {"name": "i"},
                "client": {"enabled": True},
            }
        }
    }
    for values in ({}, everything):
        manifests = helm_4.render(values)
        assert of_kind(manifests, "Secret") == []
        assert "PRIVATE KEY" not in str(manifests)


def test_cert_manager_writes_the_secrets_that_are_mounted(helm_4: Helm) -> None:
    manager = {"enabled": True, "issuerRef": {"name": "ca"}, "client": {"enabled": True}}
    manifests = helm_4.render({"tls": {"certManager": manager | {"dnsNames": ["a.example"]}}})
    certificate = only(manifests, "Certificate", "agents-kotaemon-grpc")["spec"]
    assert volumes(manifests)["files-tls"]["secret"]["secretName"] == certificate["secretName"]
    for service in of_kind(manifests, "Service"):
        assert f"{service['metadata']['name']}.agents.svc" in certificate["dnsNames"]
    assert "a.example" in certificate["dnsNames"]
    client = only(manifests, "Certificate", "-client")["spec"]
    (volume,) = [each for each in only(manifests, "Pod")["spec"]["volumes"] if "secret" in each]
    assert volume["secret"]["secretName"] == client["secretName"]
    # And it has the role that the test needs.
    assert f'"principals" = ["{client["uris"][0]}"], "roles" = ["user"]' in settings_text(manifests)
