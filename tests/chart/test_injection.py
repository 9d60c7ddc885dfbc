"""No text in values becomes YAML of its own."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import CHART, NAMESPACE, Refused, only, settings_text
from tests.chart.validation import problems

if TYPE_CHECKING:
    from tests.chart.helm import Helm

# What YAML 1.1 takes for the end of a line, and what YAML does not take as it is.
ENDS = "\x85\u2028\u2029"
OTHERS = "\x7f\x80\x9f\ufeff\ufffe\uffff"


def attack(end: str) -> str:
    """An object that would give its writer the whole cluster."""
    lines = (
        "x",
        "apiVersion: rbac.authorization.k8s.io/v1",
        "kind: ClusterRoleBinding",
        "metadata: {name: mine}",
        "subjects: [{kind: Group, name: system:authenticated}]",
    )
    return end.join(lines)


@pytest.mark.parametrize("end", [*ENDS, *OTHERS, "\n", "\r", "\n\x85---\x85"])
def test_settings_are_text(helm: Helm, end: str) -> None:
    text = attack(end)
    config: dict[str, Any] = {
        "policy": {
            "bindings": [{"principals": [text], "roles": ["user"]}],
            "roles": {text: {"methods": [text]}},
        },
        "documents": {"import_paths": [text]},
        "log": {"level": "debug"},
    }
    usual = {(each["kind"], each["metadata"]["name"]) for each in helm.render()}
    manifests = helm.render({"config": config})
    assert {(each["kind"], each["metadata"]["name"]) for each in manifests} == usual
    assert list(problems(manifests, "1.37")) == []
    written = tomllib.loads(settings_text(manifests))
    assert {section: written[section] for section in config} == config


def test_settings_are_ascii_but_for_letters(helm_4: Helm) -> None:
    config = {"policy": {"bindings": [{"principals": [f"Zoë{ENDS}{OTHERS}"], "roles": []}]}}
    text = settings_text(helm_4.render({"config": config}))
    assert r'"Zoë\u0085\u2028\u2029\u007f\u0080\u009f\ufeff\ufffe\uffff"' in text


@pytest.mark.parametrize("end", [*ENDS, "\n"])
def test_keys_of_settings_are_text_without_the_schema(helm: Helm, end: str) -> None:
    text = attack(end)
    rendered = helm.run(
        "template",
        "agents",
        CHART,
        "--skip-schema-validation",
        "--show-only=templates/configmap.yaml",
        values={"config": {text: {text: 1}}},
    )
    assert rendered.count("\nkind:") == 1
    assert end == "\n" or end not in rendered


@pytest.mark.parametrize("end", [*ENDS, *OTHERS])
def test_files_are_text(helm: Helm, end: str) -> None:
    text = attack(end)
    manifests = helm.render({"files": {"a": {"inline": {"b": text}, "secret": False}}})
    assert only(manifests, "ConfigMap", "-a")["data"] == {"b": text}


# Values that are written without quotes of their own, of every way that they are.
PLACES: dict[str, Any] = {
    "commonAnnotations": lambda text: {"commonAnnotations": {"a": text}},
    "podAnnotations": lambda text: {"podAnnotations": {"a": text}},
    "extraEnv": lambda text: {"extraEnv": [{"name": "A", "value": text}]},
    "sidecars": lambda text: {"sidecars": [{"name": "a", "image": "b", "args": [text]}]},
    "prometheusRule": lambda text: {
        "prometheusRule": {"enabled": True, "alertLabels": {"a": text}}
    },
    "dashboard": lambda text: {"dashboard": {"enabled": True, "annotations": {"a": text}}},
    "networkPolicy": lambda text: {
        "networkPolicy": {"grpc": {"from": [{"podSelector": {"matchLabels": {"a": text}}}]}}
    },
    "extraObjects": lambda text: {
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "a", "namespace": NAMESPACE},
                "data": {"a": text},
            }
        ]
    },
    "tls": lambda text: {"tls": {"clientCA": {"inline": text}}},
}


@pytest.mark.parametrize("place", PLACES)
def test_odd_characters_are_refused_elsewhere(helm: Helm, place: str) -> None:
    for odd in (ENDS + OTHERS).replace("\ufeff", ""):
        with pytest.raises(Refused) as caught:
            helm.render(PLACES[place](f"a\n{attack(odd)}"))
        assert f"{place}: a character that YAML takes for the end of a line" in str(caught.value)
    manifests = helm.render(PLACES[place]("a\ufeffb"))
    assert list(problems(manifests, "1.37")) == []
    assert "a\ufeffb" in json.dumps(manifests, ensure_ascii=False)


# Values that the schema alone keeps to a form; without it they must be text, or be refused.
UNQUOTED: dict[str, Any] = {
    "dnsPolicy": lambda text: {"dnsPolicy": text},
    "tmpSize": lambda text: {"tmpSize": text, "resources": {"limits": {"ephemeral-storage": None}}},
    "image.pullPolicy": lambda text: {"image": {"pullPolicy": text}},
    "storage.size": lambda text: {"storage": {"size": text}},
    "storage.whenDeleted": lambda text: {"storage": {"whenDeleted": text}},
    "service.type": lambda text: {"service": {"type": text, "externalTrafficPolicy": text}},
    "service.ipFamilyPolicy": lambda text: {"service": {"ipFamilyPolicy": text}},
    "serviceMonitor": lambda text: {
        "serviceMonitor": {"enabled": True, "interval": text, "scrapeTimeout": text}
    },
    "certManager": lambda text: {
        "tls": {
            "certManager": {
                "enabled": True,
                "issuerRef": {"name": "a"},
                "clusterDomain": text,
                "renewBefore": text,
                "privateKey": {"algorithm": text},
            }
        }
    },
    "tlsRoute": lambda text: {
        "tlsRoute": {
            "enabled": True,
            "apiVersion": text,
            "parentRefs": [{"name": "a"}],
            "hostnames": ["a.example"],
        }
    },
    "files": lambda text: {"files": {text: {"existingSecret": "a"}}},
    "probes": lambda text: {"probes": {"startup": {text: 1}}},
}


@pytest.mark.parametrize("place", UNQUOTED)
def test_what_the_schema_keeps_to_a_form_is_quoted(helm: Helm, place: str) -> None:
    rendered = helm.run(
        "template",
        "agents",
        CHART,
        "--skip-schema-validation",
        values=UNQUOTED[place]("a\nkind: Injected"),
    )
    assert "Injected" in rendered
    assert not [line for line in rendered.splitlines() if line.strip() == "kind: Injected"]
