"""Values of the chart, drawn from its schema."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from tests.chart.helm import CHART, DEFAULTS, merged

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def _partial(node: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Let what has a default be left out: the schema asks for it, and Helm fills it in."""
    node.pop("required", None)
    for key, default in defaults.items():
        if isinstance(default, dict) and "properties" in node["properties"][key]:
            _partial(node["properties"][key], default)


_DRAWN = json.loads(json.dumps(SCHEMA))
_partial(_DRAWN, DEFAULTS)

_ASCII = st.characters(min_codepoint=33, max_codepoint=126)
# What YAML, or some reading of it, does not take as it is, or takes for the end of a line.
_ODD = "\x7f\x80\x85\x9f\u2028\u2029\ufffe\uffff"
_TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\n\t\ufeff" + _ODD),
    max_size=20,
)

# Of Kubernetes' own types, which the schema leaves to the API server, some that are right. Lists of
# them are drawn without repetition, as their items have names that must differ.
_SAMPLES: dict[str, list[Any]] = {
    "affinity": [
        {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}},
    ],
    "dnsConfig": [{"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "2"}]}],
    "workloadUpdateStrategy": [{}, {"type": "RollingUpdate"}],
    "scalingBehavior": [{}, {"scaleUp": {"stabilizationWindowSeconds": 30}}],
    "toleration": [{"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b"}],
    "environmentVariable": [
        {"name": "A", "value": "b"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
    ],
    "environmentSource": [{"configMapRef": {"name": "a"}}, {"secretRef": {"name": "b"}}],
    "volumeMount": [{"name": "a", "mountPath": "/mnt/a"}, {"name": "b", "mountPath": "/mnt/b"}],
    "hostAlias": [{"ip": "192.0.2.1", "hostnames": ["a.example"]}],
    "networkPolicyPeer": [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"a": "b"}}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}},
    ],
    "networkPolicyRule": [{}, {"ports": [{"port": 1, "endPort": 2, "protocol": "TCP"}]}],
    "metricSpec": [
        {"type": "External", "external": {
            "metric": {"name": "queue"}, "target": {"type": "Value", "value": "3"}}},
    ],
    "parentRef": [{"name": "a"}, {"name": "b", "namespace": "c", "sectionName": "d", "port": 1}],
    "grpcMatch": [{"method": {"service": "kotaemon.v2.AgentService"}}],
    "grpcFilter": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["a"]}}],
    "relabeling": [{"action": "labeldrop", "regex": "pod"}],
    "topologySpreadConstraint": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
    ],
    "rule": [{"record": "a:b", "expr": "vector(1)"}, {"alert": "A", "expr": "x", "for": "1m"}],
    "volumeSource": [
        {},
        {"configMap": {"name": "a"}},
        {"persistentVolumeClaim": {"claimName": "a", "readOnly": True}},
    ],
    "volume": [
        {"name": "a", "emptyDir": {}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "a"}}]}},
        {"name": "c", "csi": {"driver": "d", "readOnly": True}},
    ],
    "resources": [
        {},
        {"requests": {"cpu": 1, "memory": "1Gi"}},
        {"requests": {"cpu": "500m"}, "limits": {"nvidia.com/gpu": "1"}},
    ],
}  # fmt: skip

# A chart that has this one as its dependency gives these; they are tried with the example.
_OF_PARENTS = {"enabled", "global"}


def values() -> SearchStrategy[dict[str, Any]]:
    """Draw values that the schema allows, most of which go together."""
    sections = {
        key: of(node) for key, node in _DRAWN["properties"].items() if key not in _OF_PARENTS
    }
    sections["global"] = st.sampled_from([{}, {"imageRegistry": "r.example", "other": [1]}])
    sections["extraObjects"] = st.lists(st.sampled_from(_OBJECTS), max_size=2, unique_by=str)
    sections["sidecars"] = st.lists(containers("sidecar"), max_size=1)
    sections["initContainers"] = st.lists(containers("first"), max_size=1)
    chosen = st.sets(st.sampled_from(sorted(sections)), min_size=1, max_size=9)
    return chosen.flatmap(
        lambda keys: st.fixed_dictionaries({key: sections[key] for key in sorted(keys)})
    ).map(mended)


_OBJECTS = [
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "more", "namespace": "agents"},
        "data": {"a": "b"},
    },
    """\
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "kotaemon-grpc.fullname" . }}-text
  namespace: {{ .Release.Namespace }}
""",
]


def containers(name: str) -> SearchStrategy[dict[str, Any]]:
    """Draw a container with what the schema lets it say about its security."""
    schema = SCHEMA["$defs"]["container"]["properties"]
    return st.fixed_dictionaries(
        {"name": st.just(name), "image": st.just("a:1")},
        optional={
            "securityContext": of(schema["securityContext"]),
            "livenessProbe": st.just({"tcpSocket": {"port": 1}}),
            "ports": st.just([{"containerPort": 1}]),
        },
    )


def mended(drawn: dict[str, Any]) -> dict[str, Any]:
    """Put right what would be refused most of the time, so that more is rendered."""
    for key in drawn.keys() - {"config", "files", "apiKeys"}:
        # Elsewhere they are refused.
        text = json.dumps(drawn[key], ensure_ascii=False)
        drawn[key] = json.loads(re.sub(f"[{_ODD}]", "-", text))
    if drawn.get("replicas", 1) > 1 or "autoscaling" in drawn:
        drawn["storage"] = drawn.get("storage", {}) | {"kind": "none"}
    for index, listener in enumerate(drawn.get("listeners", [])):
        listener |= {"name": f"more-{index}", "port": 40000 + index}
    _mend_credentials(drawn)
    for file in drawn.get("files", {}).values():
        for spare in list(file.keys() - {"secret", "reloaded"})[1:]:
            del file[spare]
    if {"storage", "tmpSize"} & drawn.keys():
        room = {"limits": {"ephemeral-storage": "1000000000Ti"}}
        drawn["resources"] = merged(drawn.get("resources", {}), room)
    # Of these hardly any that is drawn is there.
    for section, key in (
        ("ingress", "listener"),
        ("grpcRoute", "listener"),
        ("tlsRoute", "listener"),
        ("prometheusRule", "disabled"),
    ):
        drawn.get(section, {}).pop(key, None)
    return drawn


def _mend_credentials(drawn: dict[str, Any]) -> None:
    """Let each listener take some that go together, and let somebody vouch for them."""
    lists = [drawn, *drawn.get("listeners", [])]
    for each in lists:
        if "credentials" in each:
            kind = each["credentials"][0].startswith("certificate")
            each["credentials"] = [
                one for one in each["credentials"] if one.startswith("certificate") == kind
            ]
    if any("api_key" in one for each in lists for one in each.get("credentials", [])):
        drawn["apiKeys"] = {"existingSecret": "keys"}
    if any("jwt" in one for each in lists for one in each.get("credentials", [])):
        drawn.setdefault("config", {}).setdefault("identity", {})["issuers"] = [_ISSUER]


_ISSUER = {
    "name": "staff",
    "issuer": "https://login.example.org",
    "audiences": ["kotaemon-grpc"],
    "jwks": "https://login.example.org:8443/jwks",
}


def of(node: dict[str, Any] | bool) -> SearchStrategy[Any]:  # noqa: FBT001 - a schema may be one
    """Draw what a schema allows."""
    if isinstance(node, bool):
        return st.just("anything") if node else st.nothing()
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        known = _SAMPLES.get(name)
        return st.sampled_from(known) if known else of(SCHEMA["$defs"][name])
    if choice := node.get("enum", [node["const"]] if "const" in node else []):
        return st.sampled_from(choice)
    if alternatives := node.get("oneOf", node.get("anyOf", [])):
        return st.one_of(*map(of, alternatives))
    return _OF_TYPE[node["type"]](node)


def _integer(node: dict[str, Any]) -> SearchStrategy[int]:
    return st.integers(node.get("minimum", 0), node.get("maximum", 2**31 - 1))


def _number(node: dict[str, Any]) -> SearchStrategy[float]:
    least = node.get("minimum", node.get("exclusiveMinimum", 0))
    # As a person would write it: YAML and JSON have numbers of any length.
    scaled = st.integers(1 + round(least * 1000), round(node.get("maximum", 1e6) * 1000))
    return scaled.map(lambda number: number / 1000)


def _string(node: dict[str, Any]) -> SearchStrategy[str]:
    most = node.get("maxLength", 200)
    if "pattern" in node:
        found = st.from_regex(node["pattern"], fullmatch=True, alphabet=_ASCII)
        return found.filter(lambda text: node.get("minLength", 0) <= len(text) <= most)
    forbidden = node.get("not", {}).get("pattern", "\0")
    return _TEXT.filter(
        lambda text: len(text) >= node.get("minLength", 0) and forbidden not in text
    )


def _array(node: dict[str, Any]) -> SearchStrategy[list[Any]]:
    most = min(3, node.get("maxItems", 3))
    return st.lists(
        of(node["items"]), min_size=node.get("minItems", 0), max_size=most, unique_by=json.dumps
    )


def _object(node: dict[str, Any]) -> SearchStrategy[dict[str, Any]]:
    required = set(node.get("required", []))
    known = node.get("properties", {})
    if known:
        optional = {key: of(child) for key, child in known.items() if key not in required}
        return st.fixed_dictionaries({key: of(known[key]) for key in required}, optional=optional)
    more = node.get("additionalProperties", True)
    if more is True:
        return st.just({})
    names = node.get("propertyNames", {})
    keys = _string({"type": "string", "maxLength": 63, **names}) if names else _TEXT.filter(bool)
    if "not" in names:
        keys = keys.filter(lambda key: "security." not in key)
    return st.dictionaries(keys, of(more), max_size=2)


_OF_TYPE: dict[str, Callable[[dict[str, Any]], SearchStrategy[Any]]] = {
    "boolean": lambda _: st.booleans(),
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
}
