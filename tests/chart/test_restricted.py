"""The check of the restricted standard sees what it has to see."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from tests.chart.restricted import violations

GOOD: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
    "volumes": [{"name": "v", "emptyDir": {}}],
}

BAD: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "host network": (("hostNetwork",), True),
    "host volume": (("volumes", 0), {"name": "v", "hostPath": {"path": "/"}}),
    "root": (("securityContext", "runAsUser"), 0),
    "perhaps root": (("securityContext", "runAsNonRoot"), False),
    "no profile": (("securityContext", "seccompProfile"), {}),
    "unconfined": (("securityContext", "seccompProfile"), {"type": "Unconfined"}),
    "SELinux": (("securityContext", "seLinuxOptions"), {"type": "spc_t"}),
    "AppArmor": (("securityContext", "appArmorProfile"), {"type": "Unconfined"}),
    "sysctl": (("securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}]),
    "privileged": (("containers", 0, "securityContext", "privileged"), True),
    "escalation": (("containers", 0, "securityContext", "allowPrivilegeEscalation"), True),
    "escalation by default": (
        ("containers", 0, "securityContext"),
        {"capabilities": {"drop": ["ALL"]}},
    ),
    "capabilities kept": (("containers", 0, "securityContext", "capabilities"), {}),
    "capabilities added": (
        ("containers", 0, "securityContext", "capabilities"),
        {"drop": ["ALL"], "add": ["NET_ADMIN"]},
    ),
    "proc": (("containers", 0, "securityContext", "procMount"), "Unmasked"),
    "host port": (("containers", 0, "ports"), [{"containerPort": 1, "hostPort": 1}]),
    "another host": (("containers", 0, "livenessProbe"), {"tcpSocket": {"host": "h", "port": 1}}),
    "initial container": (("initContainers",), [{"name": "i"}]),
}


def test_good_pod_passes() -> None:
    assert list(violations({}, GOOD)) == []


@pytest.mark.parametrize("what", BAD)
def test_bad_pod_is_seen(what: str) -> None:
    path, value = BAD[what]
    pod = deepcopy(GOOD)
    place: Any = pod
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert list(violations({}, pod)) != []


def test_unconfined_by_annotation_is_seen() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/c"
    assert list(violations({"annotations": {key: "unconfined"}}, GOOD)) != []
