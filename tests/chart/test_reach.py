"""Every value that is given reaches an object: each of these is found in what is rendered."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.chart.helm import DEFAULTS, merged
from tests.chart.validation import problems
from tests.chart.value_space import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chart.helm import Helm, Values


def marked(name: str) -> dict[str, Any]:
    """Further labels and annotations of a section."""
    return {"labels": {f"l-{name}": f"lv-{name}"}, "annotations": {f"a-{name}": f"av-{name}"}}


def peer(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kind": f"peer-{name}"}}}


def rule(port: int) -> dict[str, Any]:
    return {"ports": [{"port": port, "protocol": "TCP"}]}


def egress(name: str, port: int) -> dict[str, Any]:
    return {"to": [peer(name)], "ports": [port]}


# No two of these are alike, and none is a default. They are of two releases, because a StatefulSet
# and what scales do not go together.
BOTH: Values = {
    "commonLabels": {"l-common": "lv-common"},
    "commonAnnotations": {"a-common": "av-common"},
    "image": {
        "registry": "registry.example:5000",
        "repository": "team/server",
        "tag": "9.8.7",
        "pullPolicy": "Never",
        "pullSecrets": ["pull-a"],
    },
    "documents": {"configMap": {"name": "handbook"}},
    "config": {"server": {"max_connections": 31_001}},
    "bindAddress": "[::]",
    "credentials": ["certificate+api_key", "certificate"],
    "listeners": [
        {
            "name": "tokens",
            "port": 31_002,
            "credentials": ["api_key"],
            "minVersion": "1.3",
            "secretName": "tokens-tls",
        }
    ],
    "apiKeys": {"existingSecret": "keys-secret", "key": "keys.json"},
    "files": {"more": {"inline": {"more.txt": "text of a file"}, "secret": False}},
    "tls": {
        "secretName": "own-tls",
        "minVersion": "1.3",
        "keyPassphrase": {"existingSecret": "pass-secret", "key": "pass-key"},
        "clientCA": {"existingConfigMap": "ca-map", "key": "ca-key.pem"},
        "certManager": {
            "enabled": True,
            "issuerRef": {"name": "issuer-a", "kind": "ClusterIssuer", "group": "issuers.example"},
            "dnsNames": ["one.example"],
            "commonName": "server name",
            "clusterDomain": "cluster.example",
            "duration": "1001h",
            "renewBefore": "101h",
            "privateKey": {"algorithm": "RSA", "size": 3072},
            "client": {
                "enabled": True,
                "secretName": "client-secret",
                "spiffeId": "spiffe://example.org/caller",
                "commonName": "client name",
                "roles": ["asker"],
            },
        },
    },
    "operations": {
        "tls": {"enabled": True, "secretName": "ops-tls", "clientCertificates": True}
    },
    "service": {
        "type": "LoadBalancer",
        "port": 31_003,
        "appProtocol": "example.org/grpc",
        "loadBalancerClass": "class.example/lb",
        "loadBalancerSourceRanges": ["198.51.100.0/24"],
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "PreferDualStack",
        **marked("service"),
    },
    "networkPolicy": {
        "grpc": {"from": [peer("grpc")]},
        "operations": {"from": [peer("operations")]},
        "egress": {
            "dns": egress("dns", 31_010),
            "otlp": egress("otlp", 31_011),
            "jwks": egress("jwks", 31_012),
            "llm": egress("llm", 31_013),
            "database": egress("database", 31_014),
        },
        "extraIngress": [rule(31_015)],
        "extraEgress": [rule(31_016)],
    },
    "ingress": {
        "enabled": True,
        "className": "class-a",
        "hosts": ["ingress.example"],
        "tlsSecretName": "ingress-tls",
        "listener": "tokens",
        **marked("ingress"),
    },
    "grpcRoute": {
        "enabled": True,
        "parentRefs": [{"name": "grpc-gateway"}],
        "hostnames": ["grpc.example"],
        "listener": "tokens",
        "matches": [{"method": {"service": "example.Service"}}],
        "filters": [{"type": "RequestMirror"}],
        "backendTLS": {
            "apiVersion": "gateway.networking.k8s.io/v1alpha3",
            "caConfigMap": "gateway-ca",
            "hostname": "backend.example",
        },
        **marked("grpc"),
    },
    "tlsRoute": {
        "enabled": True,
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "parentRefs": [{"name": "tls-gateway"}],
        "hostnames": ["tls.example"],
        "listener": "tokens",
        **marked("tls"),
    },
    "shutdown": {
        "preStopSeconds": 71,
        "delaySeconds": 72,
        "graceSeconds": 73,
        "terminationGracePeriodSeconds": 777,
    },
    "probes": {
        "startup": {"periodSeconds": 41, "timeoutSeconds": 42, "failureThreshold": 43},
        "readiness": {"periodSeconds": 44, "timeoutSeconds": 45, "failureThreshold": 46},
        "liveness": {"periodSeconds": 47, "timeoutSeconds": 48, "failureThreshold": 49},
    },
    "resources": {
        "requests": {"cpu": "251m", "memory": "257Mi", "ephemeral-storage": "65Mi"},
        "limits": {"cpu": "2001m", "memory": "1025Mi", "ephemeral-storage": "90Gi"},
    },
    "tmpSize": "129Mi",
    "minReadySeconds": 51,
    "revisionHistoryLimit": 52,
    "nodeSelector": {"pool": "pool-a"},
    "tolerations": [{"key": "taint-a", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 56, "podAffinityTerm": {"topologyKey": "affinity-key"}}]}},
    "topologySpreadConstraints": [
        {"maxSkew": 54, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    ],
    "priorityClassName": "priority-a",
    "schedulerName": "scheduler-a",
    "runtimeClassName": "runtime-a",
    "podSecurity": {
        "runAsUser": 20_001,
        "runAsGroup": 20_002,
        "fsGroup": 20_003,
        "supplementalGroups": [20_004],
    },
    "serviceAccount": {"name": "account-a", "annotations": {"a-account": "av-account"}},
    "serviceMonitor": {
        "enabled": True,
        "interval": "31s",
        "scrapeTimeout": "11s",
        "relabelings": [{"action": "labeldrop", "regex": "label-a"}],
        "metricRelabelings": [{"action": "labeldrop", "regex": "label-b"}],
        "tls": {
            "caSecret": "monitor-ca",
            "caKey": "monitor-key",
            "serverName": "monitor.example",
            "clientSecret": "monitor-client",
        },
        **marked("monitor"),
    },
    "prometheusRule": {
        "enabled": True,
        "errorBudget": 0.0123,
        "leastFaults": 31_017,
        "slowSeconds": 0.025,
        "alertLabels": {"team": "team-a"},
        "runbookURL": "https://runbooks.example/",
        "extraRules": [{"alert": "Extra", "expr": "vector(61)"}],
        **marked("rule"),
    },
    "dashboard": {"enabled": True, **marked("dashboard")},
    "test": {
        "secretName": "test-secret",
        "host": "test.example",
        "annotations": {"a-test": "av-test"},
    },
    "podLabels": {"l-pod": "lv-pod"},
    "podAnnotations": {"a-pod": "av-pod"},
    "workloadAnnotations": {"a-workload": "av-workload"},
    "extraArgs": ["--log-level=debug"],
    "extraEnv": [{"name": "EXTRA", "value": "extra-env"}],
    "extraEnvFrom": [{"configMapRef": {"name": "env-map"}}],
    "extraVolumes": [{"name": "extra", "configMap": {"name": "extra-map"}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/mnt/extra"}],
    "initContainers": [{"name": "first-a", "image": "first:1"}],
    "sidecars": [{"name": "beside-a", "image": "beside:1"}],
    "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["alias.example"]}],
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["192.0.2.10"]},
    "extraObjects": [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "extra-object", "namespace": "agents"},
        }
    ],
}  # fmt: skip
STORED: Values = {
    "nameOverride": "name-a",
    "image": {"digest": "sha256:" + "a" * 64},
    "storage": {
        "size": "77Gi",
        "storageClassName": "fast",
        "accessModes": ["ReadWriteOncePod"],
        "annotations": {"a-claim": "av-claim"},
        "whenDeleted": "Delete",
    },
    "replicas": 0,
    "updateStrategy": {"type": "OnDelete"},
    "podDisruptionBudget": {"maxUnavailable": "61%"},
}
SCALED: Values = {
    "fullnameOverride": "full-a",
    "storage": {"kind": "none", "size": "78Gi"},
    "autoscaling": {
        "enabled": True,
        "minReplicas": 57,
        "maxReplicas": 87,
        "cpuUtilization": 81,
        "callsInFlight": 82,
        "callsWaiting": 83,
        "metrics": [{"type": "External", "external": {
            "metric": {"name": "queue-a"}, "target": {"type": "Value", "value": "84"}}}],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 85}},
    },
    "updateStrategy": {"rollingUpdate": {"maxSurge": "86%"}},
    "podDisruptionBudget": {"minAvailable": 55},
}  # fmt: skip

# What is tried elsewhere, or is seen in what is not there.
ELSEWHERE = {
    "global.imageRegistry", "enabled", "existingConfigMap", "apiKeys.inline",
    "tls.clientCA.existingSecret", "tls.clientCA.inline", "storage.existingClaim",
    "autoscaling.external", "networkPolicy.enabled",
    "podDisruptionBudget.enabled", "podSecurity.assignedByPlatform", "serviceAccount.create",
    "prometheusRule.disabled", "test.enabled", "grpcRoute.backendTLS.enabled",
}  # fmt: skip


def leaves(values: Any) -> Iterator[str]:
    """Give what is written in values, as it is written in an object."""
    if isinstance(values, dict):
        for value in values.values():
            yield from leaves(value)
    elif isinstance(values, list):
        for value in values:
            yield from leaves(value)
    elif not isinstance(values, bool):
        yield json.dumps(values) if isinstance(values, str) else str(values)


def paths(node: Any, given: Values | None, place: str = "") -> Iterator[str]:
    """Give the values of the schema that nobody gave."""
    for key, child in node["properties"].items():
        here = f"{place}.{key}".lstrip(".")
        value = (given or {}).get(key)
        if "properties" in child:
            yield from paths(child, value, here)
        elif value is None:
            yield here


def test_every_value_is_found_in_an_object(helm_4: Helm) -> None:
    for values in (STORED, SCALED):
        given = merged(BOTH, values)
        manifests = helm_4.render(given)
        assert list(problems(manifests, "1.37")) == []
        text = json.dumps(manifests)
        if given["image"].get("digest"):
            del given["image"]["tag"]
        elsewhere = {"volume", "none", "https://runbooks.example/"}
        written = {leaf.strip('"') for leaf in leaves(given)} - elsewhere
        missing = {
            leaf
            for leaf in written
            if not re.search(rf"(?<![\w-]){re.escape(leaf)}(?![\w-])", text)
        }
        assert missing == set()


def test_no_value_is_left_out_of_that() -> None:
    assert set(paths(SCHEMA, merged(merged(BOTH, STORED), SCALED))) <= ELSEWHERE
    defaults = set(leaves(DEFAULTS))
    alike = [
        leaf
        for leaf in leaves(merged(BOTH, SCALED))
        if leaf in defaults and leaf not in {'"certificate"', '"1.3"'}
    ]
    assert alike == []
