"""What the chart refuses, before anything is installed, and what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import CHART, DEFAULTS, FILES, Refused
from tests.chart.validation import problems
from tests.chart.value_space import SCHEMA

if TYPE_CHECKING:
    from tests.chart.helm import Helm

MANY: dict[str, Any] = {"storage": {"kind": "none"}, "replicas": 2}
ISSUER: dict[str, Any] = {
    "name": "a", "issuer": "b", "audiences": ["c"], "jwks": "https://d.example/jwks",
}  # fmt: skip
TOKEN: dict[str, Any] = {"projected": {"sources": [{"serviceAccountToken": {"path": "b"}}]}}
TOKENS: dict[str, Any] = {"name": "tokens", "port": 50061, "credentials": ["jwt"]}

# Values that do not go together, and a part of what is said.
TOGETHER: dict[str, tuple[dict[str, Any], str]] = {
    "two pods on an embedded store": ({"replicas": 2}, "one server at a time"),
    "an embedded store that is scaled": (
        {"autoscaling": {"enabled": True}},
        "one server at a time",
    ),
    "an embedded store that KEDA scales": (
        {"autoscaling": {"external": True}},
        "one server at a time",
    ),
    "more pods at least than at most": (
        MANY | {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}},
        "minReplicas is above maxReplicas",
    ),
    "nothing to scale by": (
        MANY | {"autoscaling": {"enabled": True, "cpuUtilization": 0}},
        "nothing to scale by",
    ),
    "a part of no request": (
        MANY | {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        "set resources.requests.cpu",
    ),
    "a drain that is cut off": (
        {"shutdown": {"terminationGracePeriodSeconds": 44}},
        "44 is too short: preStopSeconds, delaySeconds and graceSeconds are 35 together",
    ),
    "a drain that nobody waits for": (
        MANY | {"shutdown": {"delaySeconds": 0}},
        "calls would still be routed",
    ),
    "a name twice": (
        {"listeners": [TOKENS, TOKENS | {"port": 50062}]},
        'the name "tokens" is taken',
    ),
    "a name of the chart's": (
        {"listeners": [TOKENS | {"name": "health"}]},
        'the name "health" is taken',
    ),
    "a port twice": ({"listeners": [TOKENS | {"port": 50052}]}, "port 50052 is taken"),
    "a port of the Service": (
        {"service": {"port": 8443}, "listeners": [TOKENS | {"port": 8443}]},
        "port 8443 is taken",
    ),
    "with and without certificates": ({"credentials": ["certificate", "jwt"]}, "every client"),
    "keys that are nowhere": ({"credentials": ["api_key"]}, "set apiKeys.existingSecret"),
    "tokens of nobody": ({"listeners": [TOKENS]}, "set config.identity.issuers"),
    "two sources of keys": (
        {"apiKeys": {"existingSecret": "a", "inline": "b"}},
        "apiKeys: give existingSecret or inline",
    ),
    "two sources of CAs": (
        {"tls": {"clientCA": {"existingSecret": "a", "existingConfigMap": "b"}}},
        "tls.clientCA: give one of",
    ),
    "two files of settings": (
        {"existingConfigMap": "a", "config": {"log": {"level": "debug"}}},
        "existingConfigMap takes its place",
    ),
    "no issuer": ({"tls": {"certManager": {"enabled": True}}}, "name the Issuer"),
    "a client's certificate of nobody": (
        {"tls": {"certManager": {"client": {"enabled": True}}}},
        "needs tls.certManager.enabled",
    ),
    "a file of the chart's": (
        {"files": {"tls": {"existingSecret": "a"}}},
        'the name "tls" is taken',
    ),
    "a file from nowhere": ({"files": {"a": {}}}, "files.a: give one of"),
    "a file from two places": (
        {"files": {"a": {"existingSecret": "a", "inline": {"b": "c"}}}},
        "files.a: give one of",
    ),
    "a volume of the chart's": (
        {"extraVolumes": [{"name": "data", "emptyDir": {}}]},
        'extraVolumes: the name "data" is taken',
    ),
    "a container of the chart's": (
        {"sidecars": [{"name": "server", "image": "a"}]},
        'the name "server" is taken',
    ),
    "certificates over plaintext": (
        {"operations": {"tls": {"clientCertificates": True}}},
        "set operations.tls.enabled",
    ),
    "Prometheus without a certificate": (
        {
            "operations": {"tls": {"enabled": True, "clientCertificates": True}},
            "serviceMonitor": {"enabled": True},
        },
        "asks Prometheus for a certificate",
    ),
    "a route to nowhere": (
        {"ingress": {"enabled": True, "hosts": ["a.example"], "listener": "b"}},
        'there is no listener "b"',
    ),
    "an Ingress for no host": ({"ingress": {"enabled": True}}, "ingress.hosts"),
    "a GRPCRoute of no Gateway": ({"grpcRoute": {"enabled": True}}, "grpcRoute.parentRefs"),
    "a TLSRoute of no Gateway": (
        {"tlsRoute": {"enabled": True, "hostnames": ["a.example"]}},
        "tlsRoute.parentRefs",
    ),
    "a TLSRoute for no host": (
        {"tlsRoute": {"enabled": True, "parentRefs": [{"name": "a"}]}},
        "tlsRoute.hostnames",
    ),
    "nodes that are never drained": (
        {"podDisruptionBudget": {"minAvailable": 1}},
        "keep a node from ever being drained",
    ),
    "nodes that are never drained, in percent": (
        MANY | {"podDisruptionBudget": {"minAvailable": "51%"}},
        "with 2 pods it would keep a node from ever being drained",
    ),
    "nodes that are never drained, however many pods": (
        MANY | {"autoscaling": {"external": True}, "podDisruptionBudget": {"minAvailable": "100%"}},
        "keep a node from ever being drained",
    ),
    "nodes that are never drained, the other way": (
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        "keep a node from ever being drained",
    ),
    "an update that a StatefulSet does not know": (
        {"updateStrategy": {"type": "Recreate"}},
        "a StatefulSet has RollingUpdate or OnDelete",
    ),
    "an update that a Deployment does not know": (
        {"storage": {"kind": "none"}, "updateStrategy": {"type": "OnDelete"}},
        "a Deployment has RollingUpdate or Recreate",
    ),
    "more than the pod may write": (
        {"storage": {"kind": "none", "size": "900Mi"}},
        "1Gi is less than the pod may write, which is tmpSize (128Mi) and storage.size (900Mi)",
    ),
    "more than the pod may write to /tmp": (
        {"tmpSize": "2G"},
        "1Gi is less than the pod may write, which is tmpSize (2G)",
    ),
    "a private key among CAs": (
        {"tls": {"clientCA": {"inline": "-----BEGIN PRIVATE KEY-----"}}},
        "a private key has no place among CAs",
    ),
    "a private key in a ConfigMap": (
        {"files": {"a": {"inline": {"b.pem": "-----BEGIN RSA PRIVATE KEY-----"}, "secret": False}}},
        'files.a.inline: "b.pem" has a private key',
    ),
    "a password in a URL": (
        {"config": {"identity": {"issuers": [ISSUER | {"jwks": "HTTPS://a:b@d.example/jwks"}]}}},
        "config.identity.issuers[0].jwks: a URL with a user's name or password",
    ),
    "the end of a line by NEL": (
        {"prometheusRule": {"runbookURL": "https://a/\x85b"}},
        "prometheusRule: a character that YAML takes for the end of a line",
    ),
    "the end of a line by LS": (
        {"podAnnotations": {"a": "b\n\u2028hostNetwork: true"}},
        "podAnnotations: a character that YAML takes for the end of a line",
    ),
    "the end of a line by PS, from a parent": (
        {"global": {"imagePullSecrets": [{"name": "a\n\u2029b"}]}},
        "global: a character that YAML takes for the end of a line",
    ),
    "an alert that is not there": (
        {"prometheusRule": {"disabled": ["KotaemonGrpcSlov"]}},
        'there is no alert "KotaemonGrpcSlov"',
    ),
    "a key set that is not mounted": (
        {"config": {"identity": {"issuers": [ISSUER | {"jwks": f"{FILES}/staff/jwks.json"}]}}},
        "config.identity.issuers[0].jwks: nothing is mounted at /etc/kotaemon-grpc-files/staff",
    ),
    "a file with another name": (
        {
            "config": {"traces": {"ca": f"{FILES}/collector/ca.crt"}},
            "files": {"collector": {"inline": {"ca.pem": "PEM"}}},
        },
        'config.traces.ca: files.collector.inline has no "ca.crt"',
    ),
    "a release that begins with a digit": ({"_release": "1a"}, "begin with a letter"),
}

# Values that the schema refuses, and the path that Helm names.
ALONE: dict[str, tuple[dict[str, Any], str]] = {
    "a value that is not there": ({"replicaCount": 2}, "replicaCount"),
    "a misspelt value inside another": ({"tls": {"secret": "a"}}, "secret"),
    "text for a number": ({"replicas": "2"}, "replicas"),
    "a number for text": ({"image": {"tag": 1.0}}, "tag"),
    "text for a truth value": ({"ingress": {"enabled": "true"}}, "enabled"),
    "another kind of store": ({"storage": {"kind": "nfs"}}, "kind"),
    "storage that pods share": ({"storage": {"accessModes": ["ReadWriteMany"]}}, "accessModes"),
    "a tag in the repository": (
        {"image": {"repository": "registry.example:5000/a:1"}},
        "repository",
    ),
    "a size of nobody's": ({"storage": {"size": "10GB"}}, "size"),
    "a list that is text": ({"extraArgs": "--log-level=debug"}, "extraArgs"),
    "an address without brackets": ({"bindAddress": "::"}, "bindAddress"),
    "a name that is none": ({"test": {"secretName": "Foo_Bar"}}, "secretName"),
    "a section that is taken away": ({"networkPolicy": None}, "networkPolicy"),
    "a value that is taken away": ({"shutdown": {"graceSeconds": None}}, "graceSeconds"),
    "a digest that is none": ({"image": {"digest": "sha256:abc"}}, "digest"),
    "an unknown credential": ({"credentials": ["password"]}, "credentials"),
    "no credential": ({"credentials": []}, "credentials"),
    "a version of TLS that is too old": ({"tls": {"minVersion": "1.1"}}, "minVersion"),
    "root": ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
    "a privileged sidecar": (
        {"sidecars": [{"name": "a", "image": "b", "securityContext": {"privileged": True}}]},
        "privileged",
    ),
    "a sidecar with a host port": (
        {"sidecars": [{"name": "a", "image": "b", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
        "hostPort",
    ),
    "a volume of the host": (
        {"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        "hostPath",
    ),
    "a volume with a token": (
        {"extraVolumes": [TOKEN | {"name": "a"}]},
        "serviceAccountToken",
    ),
    "documents with a token": (
        {"documents": TOKEN},
        "serviceAccountToken",
    ),
    "a registry that is none, from a parent": (
        {"global": {"imageRegistry": "registry.example/a b"}},
        "imageRegistry",
    ),
    "documents of the host": ({"documents": {"hostPath": {"path": "/"}}}, "hostPath"),
    "an unconfined container": (
        {"podAnnotations": {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"}},
        "apparmor",
    ),
    "a misspelt section": ({"config": {"limit": {}}}, "limit"),
    "a misspelt setting": ({"config": {"limits": {"engine_place": 1}}}, "engine_place"),
    "a setting of another type": ({"config": {"limits": {"engine_places": "16"}}}, "engine_places"),
    "a setting out of range": ({"config": {"limits": {"engine_places": 0}}}, "engine_places"),
    "an address, which is the chart's": ({"config": {"server": {"listen": "0.0.0.0:1"}}}, "listen"),
    "plaintext": ({"config": {"server": {"insecure": True}}}, "insecure"),
    "a section of the chart's": ({"config": {"tls": {}}}, "tls"),
}


def sidecar(context: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"sidecars": [{"name": "a", "image": "b", "securityContext": context} | more]}


# Values that the templates refuse by themselves when the schema is not looked at.
WITHOUT_SCHEMA: dict[str, tuple[dict[str, Any], str]] = {
    "privileged": (sidecar({"privileged": True}), "a: the restricted standard forbids"),
    "escalation": (sidecar({"allowPrivilegeEscalation": True}), "allowPrivilegeEscalation: true"),
    "capabilities": (
        sidecar({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
        "SYS_ADMIN",
    ),
    "capabilities kept": (sidecar({"capabilities": {"add": []}}), "capabilities"),
    "user 0 of a sidecar": (sidecar({"runAsUser": 0}), "runAsUser: 0"),
    "perhaps root": (sidecar({"runAsNonRoot": False}), "runAsNonRoot: false"),
    "unconfined": (sidecar({"seccompProfile": {"type": "Unconfined"}}), "Unconfined"),
    "proc": (sidecar({"procMount": "Unmasked"}), "procMount"),
    "SELinux": (sidecar({"seLinuxOptions": {"type": "spc_t"}}), "seLinuxOptions"),
    "a port of the host": (
        sidecar({}, ports=[{"containerPort": 1, "hostPort": 1}]),
        "ports of the host",
    ),
    "a device": (sidecar({}, volumeDevices=[{"name": "a", "devicePath": "/b"}]), "volumeDevices"),
    "a probe of another host": (
        sidecar({}, livenessProbe={"tcpSocket": {"host": "h", "port": 1}}),
        "another host",
    ),
    "a hook of another host": (
        sidecar({}, lifecycle={"preStop": {"httpGet": {"host": "h", "port": 1}}}),
        "another host",
    ),
    "user 0": ({"podSecurity": {"runAsUser": 0}}, "podSecurity.runAsUser"),
    "user 0 as text": ({"podSecurity": {"runAsUser": "root"}}, "podSecurity.runAsUser"),
    "group 0": ({"podSecurity": {"supplementalGroups": [0]}}, "podSecurity.supplementalGroups"),
    "a volume of the host": (
        {"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]},
        'extraVolumes: the restricted standard has no volumes of the kind "hostPath"',
    ),
    "documents of the host": (
        {"documents": {"hostPath": {"path": "/"}}},
        'documents: the restricted standard has no volumes of the kind "hostPath"',
    ),
    "a volume with a token": ({"extraVolumes": [TOKEN | {"name": "a"}]}, "pods get no token"),
    "documents with a token": ({"documents": TOKEN}, "pods get no token"),
    "unconfined by annotation": (
        {"podAnnotations": {"container.apparmor.security.beta.kubernetes.io/server": "unconfined"}},
        "podAnnotations: the chart sets",
    ),
    "a registry": (
        {"global": {"imageRegistry": "a.example/b c"}},
        '"a.example/b c" is no registry',
    ),
}


@pytest.mark.parametrize("what", WITHOUT_SCHEMA)
def test_templates_refuse_without_the_schema(helm: Helm, what: str) -> None:
    values, said = WITHOUT_SCHEMA[what]
    arguments = ("template", "agents", CHART, "--skip-schema-validation")
    assert helm.run(*arguments, values={})
    with pytest.raises(Refused) as caught:
        helm.run(*arguments, values=values)
    assert "templates/checks.yaml" in str(caught.value)
    assert said in str(caught.value)


def refusal(helm: Helm, values: dict[str, Any], **options: Any) -> str:
    release = values.pop("_release", "agents")
    with pytest.raises(Refused) as caught:
        helm.render(values, release=release, **options)
    return str(caught.value)


@pytest.mark.parametrize("what", TOGETHER)
def test_values_that_do_not_go_together_are_refused(helm: Helm, what: str) -> None:
    values, said = TOGETHER[what]
    assert said in refusal(helm, dict(values))


@pytest.mark.parametrize("what", ALONE)
def test_schema_refuses(helm: Helm, what: str) -> None:
    values, said = ALONE[what]
    message = refusal(helm, values)
    assert "schema" in message
    assert said in message


def test_all_problems_are_told_at_once(helm_4: Helm) -> None:
    message = refusal(helm_4, {"replicas": 2, "credentials": ["api_key"]})
    assert "one server at a time" in message
    assert "set apiKeys.existingSecret" in message


def test_kubelet_that_cannot_sleep_is_refused(helm_4: Helm) -> None:
    values = {"shutdown": {"preStopSeconds": 5}}
    assert "use delaySeconds" in refusal(helm_4, values, kubernetes="1.29")
    assert helm_4.render(values, kubernetes="1.30")


def test_older_kubernetes_is_refused(helm: Helm) -> None:
    assert "1.26" in refusal(helm, {}, kubernetes="1.26.0")


def test_what_is_refused_is_taken_when_it_is_right(helm_4: Helm) -> None:
    # So that the refusals above are for their reasons.
    values = MANY | {
        "shutdown": {"terminationGracePeriodSeconds": 45},
        "listeners": [TOKENS],
        "config": {
            "identity": {"issuers": [ISSUER | {"jwks": f"{FILES}/staff/jwks.json"}]},
            "traces": {
                "ca": f"{FILES}/collector/ca.crt",
                "headers_file": f"{FILES}/tokens/headers",
            },
        },
        "files": {
            "staff": {"existingConfigMap": "jwks"},
            "collector": {"inline": {"ca.crt": "PEM"}},
        },
        "extraVolumes": [{"name": "tokens", "secret": {"secretName": "tokens"}}],
        "extraVolumeMounts": [{"name": "tokens", "mountPath": f"{FILES}/tokens"}],
        "storage": {"kind": "none", "size": "896Mi"},
        "updateStrategy": {"type": "Recreate"},
        "prometheusRule": {"disabled": ["KotaemonGrpcSlow"]},
        "podDisruptionBudget": {"minAvailable": "50%"},
        "ingress": {"enabled": True, "hosts": ["a.example"], "listener": "tokens"},
        "autoscaling": {"external": True},
    }
    assert helm_4.render(values)


def test_what_the_schema_does_not_ask_for_may_be_null(helm: Helm) -> None:
    optional: dict[str, Any] = {}

    def sort(node: dict[str, Any], defaults: dict[str, Any], place: list[str]) -> None:
        for key, default in defaults.items():
            here = [*place, key]
            child = node["properties"][key]
            if key not in node["required"]:
                lay(optional, nested(here, None))
            if isinstance(default, dict) and "properties" in child:
                sort(child, default, here)

    sort(SCHEMA, DEFAULTS, [])
    for kind in ("volume", "none"):
        lay(optional, {"storage": {"kind": kind}})
        for section in ("serviceMonitor", "prometheusRule", "dashboard"):
            lay(optional, {section: {"enabled": True}})
        manifests = helm.render(optional)
        assert list(problems(manifests, "1.37")) == []
        shown = [each for each in manifests if "dashboard" not in each["metadata"]["name"]]
        assert "null" not in json.dumps(shown)


def nested(place: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(place):
        value = {key: value}
    return value


def lay(values: dict[str, Any], more: dict[str, Any]) -> None:
    """Lay values over others, and keep what is null."""
    for key, value in more.items():
        if isinstance(value, dict):
            lay(values.setdefault(key, {}), value)
        else:
            values[key] = value
