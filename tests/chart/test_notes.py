"""Helm's notes, which say how this very release is called."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.chart.helm import only

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm, Values

LISTENERS: Values = {
    "listeners": [
        {"name": "tokens", "port": 50061, "credentials": ["jwt", "api_key"]},
        {"name": "both", "port": 50062, "credentials": ["certificate+jwt"]},
    ],
    "apiKeys": {"existingSecret": "keys"},
    "config": {"identity": {"issuers": [
        {"name": "a", "issuer": "b", "audiences": ["c"], "jwks": "https://d.example/jwks"}]}},
}  # fmt: skip


def test_notes_say_how_every_listener_is_called(helm_4: Helm) -> None:
    notes = helm_4.notes(LISTENERS)
    called = re.findall(r"documents list --target \S+:(\d+) --ca ca\.pem (.*)", notes)
    certificate = "--certificate client.pem --key client-key.pem"
    assert called == [
        ("50051", certificate),
        ("50061", "--token-file token  # or --api-key-file api-key"),
        ("50062", f"{certificate} --token-file token"),
    ]


@pytest.mark.parametrize(
    ("kind", "status", "found"),
    [
        ("LoadBalancer", [{"ip": "192.0.2.1"}, {"hostname": "lb.example"}], "192.0.2.1 lb.example"),
        ("NodePort", [], "grpc 30000 tokens 30001 both 30002"),
    ],
)
def test_notes_ask_for_the_address_of_the_service(
    helm_4: Helm, tools: Path, kind: str, status: list[Any], found: str
) -> None:
    values = LISTENERS | {"service": {"type": kind}}
    service = only(helm_4.render(values), "Service", "agents-kotaemon-grpc")
    for number, port in enumerate(service["spec"]["ports"]):
        port["nodePort"] = 30000 + number
    service["status"] = {"loadBalancer": {"ingress": status}}
    (path,) = re.findall(r"-o jsonpath='(.*)'", helm_4.notes(values).partition("/etc/hosts")[0])
    done = subprocess.run(
        [tools / "kubectl", "label", "--local", "--filename=-", "a=b", f"--output=jsonpath={path}"],
        input=yaml.safe_dump(service),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == found.split()


def test_notes_of_a_release_inside_the_cluster_name_no_address_outside(helm_4: Helm) -> None:
    assert "from outside" not in helm_4.notes({})
