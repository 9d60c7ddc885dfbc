"""What the values make of the pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import (
    FILES,
    merged,
    of_kind,
    only,
    pods,
    server,
    settings_text,
    volumes,
    workload,
)
from tests.chart.value_space import SCHEMA

from kotaemon_grpc.app.reloading import settings_of
from kotaemon_grpc.config import Config

if TYPE_CHECKING:
    from tests.chart.helm import Helm


def checksum(helm: Helm, values: dict[str, Any]) -> str:
    template = workload(helm.render(values))["spec"]["template"]
    return template["metadata"]["annotations"]["checksum/config"]


def test_server_is_run_as_it_should_be(helm: Helm) -> None:
    manifests = helm.render()
    container = server(manifests)
    assert container["command"] == ["kotaemon-grpc"]
    assert container["args"] == ["serve", "--config", "/etc/kotaemon-grpc/config.toml"]
    assert container["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
    assert writable == {"/var/lib/kotaemon-grpc", "/tmp"}  # noqa: S108 - a path in a container
    assert set(mounts) - writable == {"/etc/kotaemon-grpc", f"{FILES}/tls"}
    # What says why it did not start is what it says last.
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    for _, _, spec in pods(manifests):
        # The names of other Services are no settings of this one.
        assert spec["enableServiceLinks"] is False


def test_probes_ask_the_plaintext_health_port(helm: Helm) -> None:
    container = server(helm.render())
    for kind in ("startup", "readiness", "liveness"):
        assert container[f"{kind}Probe"]["grpc"] == {"port": 50052}


@pytest.mark.parametrize(
    ("image", "reference", "pull"),
    [
        ({}, "kotaemon-grpc:0.1.0", "Always"),
        ({"tag": "1.2"}, "kotaemon-grpc:1.2", "Always"),
        ({"registry": "r.example:5000"}, "r.example:5000/kotaemon-grpc:0.1.0", "Always"),
        (
            {"digest": "sha256:" + "a" * 64, "tag": "1"},
            "kotaemon-grpc@sha256:" + "a" * 64,
            "IfNotPresent",
        ),
        ({"pullPolicy": "Never"}, "kotaemon-grpc:0.1.0", "Never"),
    ],
)
def test_image(helm_4: Helm, image: dict[str, str], reference: str, pull: str) -> None:
    container = server(helm_4.render({"image": image}))
    assert container["image"] == reference
    assert container["imagePullPolicy"] == pull


def test_pull_secrets_of_parent_and_chart_add_up(helm_4: Helm) -> None:
    manifests = helm_4.render(
        {
            "global": {"imagePullSecrets": ["a", {"name": "b"}]},
            "image": {"pullSecrets": ["b", "c"]},
        }
    )
    for each in (workload(manifests)["spec"]["template"], only(manifests, "Pod")):
        assert each["spec"]["imagePullSecrets"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]


def test_embedded_store_has_a_volume_of_its_own(helm_4: Helm) -> None:
    manifests = helm_4.render({"storage": {"size": "5Gi", "storageClassName": "fast"}})
    running = only(manifests, "StatefulSet")
    (claim,) = running["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert running["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    # Helm cannot change a claim: what changes with a version must not be in it.
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & claim["metadata"]["labels"].keys()
    # A pod that never got ready does not keep the pod that mends it away.
    assert running["spec"]["podManagementPolicy"] == "Parallel"
    headless = only(manifests, "Service", "-headless")
    assert running["spec"]["serviceName"] == headless["metadata"]["name"]


def test_existing_claim_takes_the_place_of_a_new_one(helm_4: Helm) -> None:
    manifests = helm_4.render({"storage": {"existingClaim": "mine"}})
    assert "volumeClaimTemplates" not in workload(manifests)["spec"]
    assert volumes(manifests)["data"]["persistentVolumeClaim"] == {"claimName": "mine"}


def test_pods_that_store_nothing_are_a_deployment(helm_4: Helm) -> None:
    manifests = helm_4.render(
        {
            "storage": {"kind": "none"},
            "replicas": 3,
            "documents": {"configMap": {"name": "handbook"}},
            "config": {"documents": {"import_paths": ["/srv/more"]}},
        }
    )
    running = only(manifests, "Deployment")
    assert running["spec"]["replicas"] == 3
    assert running["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    # The kubelet ends a pod that is above the limit of its container, whatever else is allowed.
    assert volumes(manifests)["data"]["emptyDir"] == {"sizeLimit": "512Mi"}
    assert server(manifests)["resources"]["limits"]["ephemeral-storage"] == "1Gi"
    assert volumes(manifests)["documents"]["configMap"] == {"name": "handbook"}
    mounts = {each["name"]: each for each in server(manifests)["volumeMounts"]}
    assert mounts["documents"]["readOnly"] is True
    assert '"/srv/documents",\n  "/srv/more"' in settings_text(manifests)


def test_deployment_waits_as_long_as_its_pods_may_start(helm_4: Helm) -> None:
    def deadline(**values: Any) -> int:
        return workload(helm_4.render({"storage": {"kind": "none"}, **values}))["spec"][
            "progressDeadlineSeconds"
        ]

    assert deadline() == 2 * 300 + 60
    slow = {"startup": {"periodSeconds": 10, "failureThreshold": 360}}
    assert deadline(probes=slow, minReadySeconds=30) == 10 * 360 + 30 + 60
    quick = {"startup": {"failureThreshold": 5}}
    assert deadline(probes=quick) == 600


def test_replicas_are_left_out_when_something_scales(helm_4: Helm) -> None:
    scaled = {"storage": {"kind": "none"}, "autoscaling": {"enabled": True, "callsInFlight": 8}}
    manifests = helm_4.render(scaled)
    assert "replicas" not in workload(manifests)["spec"]
    scaler = only(manifests, "HorizontalPodAutoscaler")["spec"]
    target = scaler["scaleTargetRef"]
    running = workload(manifests)
    assert (target["kind"], target["name"]) == (running["kind"], running["metadata"]["name"])
    metrics = scaler["metrics"]
    assert [each["type"] for each in metrics] == ["Resource", "Pods"]
    assert metrics[1]["pods"]["metric"] == {"name": "kotaemon_grpc_engine_calls_in_flight"}
    keda = helm_4.render({"storage": {"kind": "none"}, "autoscaling": {"external": True}})
    assert "replicas" not in workload(keda)["spec"]
    assert of_kind(keda, "HorizontalPodAutoscaler") == []


def test_grace_of_the_kubelet_is_the_sum_of_the_drain(helm_4: Helm) -> None:
    values = {"shutdown": {"preStopSeconds": 3, "delaySeconds": 4.5, "graceSeconds": 60}}
    spec = workload(helm_4.render(values))["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 3 + 5 + 60 + 15
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 3}}}
    text = settings_text(helm_4.render(values))
    assert "shutdown_delay_s = 4.5\nshutdown_grace_s = 60\n" in text


def test_settings_restart_the_pods_when_the_server_says_that_they_must(helm_4: Helm) -> None:
    started = Config().model_dump(mode="json")
    before = checksum(helm_4, {})
    seen = {True: 0, False: 0}
    for section, node in SCHEMA["$defs"]["config"]["properties"].items():
        for key in node["properties"]:
            settings = {section: {key: another(f"{section}.{key}", started[section][key])}}
            wanted = Config.model_validate(merged(started, settings))
            must = bool(settings_of(Config(), wanted).need_restart)
            assert (checksum(helm_4, {"config": settings}) != before) == must, settings
            seen[must] += 1
    assert min(seen.values()) > 10


OTHERS: dict[str, Any] = {
    "identity.certificates": [{"pattern": "dns:a"}],
    "identity.issuers": [
        {"name": "a", "issuer": "b", "audiences": ["c"], "jwks": "https://d.example/jwks"}
    ],
    "policy.roles": {"a": {"methods": ["kotaemon.v2.AgentService/*"]}},
    "policy.bindings": [{"principals": ["a"], "roles": ["user"]}],
    "documents.import_paths": ["/srv/more"],
    "log.level": "debug",
    "log.format": "console",
    "log.sample_ok": 0.5,
    "traces.endpoint": "collector:4317",
    "traces.ca": "/ca.pem",
    "traces.headers_file": "/headers",
}


def another(setting: str, now: Any) -> Any:
    """Another value of a setting than that of now."""
    if setting in OTHERS:
        return OTHERS[setting]
    if isinstance(now, bool):
        return not now
    return now / 2 if setting == "traces.sample_ratio" else now + 1


def test_change_that_is_taken_up_restarts_nothing(helm_4: Helm) -> None:
    before = checksum(helm_4, {})
    binding = {"principals": ["a"], "roles": ["user"]}
    for values in (
        {"config": {"limits": {"engine_places": 3}}},
        {"config": {"policy": {"bindings": [binding]}}},
        {"config": {"identity": {"certificates": [{"pattern": "dns:a"}]}}},
        {"config": {"log": {"level": "debug", "sample_ok": 0.5, "slow_s": 3}}},
        {"tls": {"clientCA": {"key": "ca.crt"}}},
        {"dashboard": {"enabled": True}},
    ):
        assert checksum(helm_4, values) == before, values


def test_change_that_is_not_taken_up_restarts_the_pods(helm_4: Helm) -> None:
    files = {"a": {"inline": {"b": "c"}}}
    changes: list[dict[str, Any]] = [
        {},
        {"config": {"log": {"format": "console"}}},
        {"config": {"identity": {"max_cached": 5}}},
        {"config": {"server": {"max_connections": 5}}},
        {"shutdown": {"graceSeconds": 20}},
        {"tls": {"minVersion": "1.3"}},
        {"files": files},
        {"files": {"a": {"inline": {"b": "d"}}}},
    ]
    assert len({checksum(helm_4, values) for values in changes}) == len(changes)
    reloaded = [{"a": {"inline": {"b": text}, "reloaded": True}} for text in ("c", "d")]
    assert len({checksum(helm_4, {"files": each}) for each in reloaded}) == 1


def test_pods_are_spread_and_may_be_sent_away_one_by_one(helm_4: Helm) -> None:
    manifests = helm_4.render()
    template = workload(manifests)["spec"]["template"]
    spread = template["spec"]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    for each in spread:
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"
        assert (
            each["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        )
    budget = only(manifests, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    # A pod that never gets ready keeps no node from being drained.
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_containers_of_the_user_are_hardened(helm_4: Helm) -> None:
    sidecar = {"name": "proxy", "image": "a:1", "securityContext": {"runAsUser": 5}}
    manifests = helm_4.render({"sidecars": [sidecar], "initContainers": [sidecar | {"name": "b"}]})
    spec = workload(manifests)["spec"]["template"]["spec"]
    for container in (spec["containers"][1], spec["initContainers"][0]):
        context = container["securityContext"]
        assert context["runAsUser"] == 5
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_container_of_the_user_may_write_its_root(helm_4: Helm) -> None:
    own = {"name": "proxy", "image": "a:1", "securityContext": {"readOnlyRootFilesystem": False}}
    values = {"sidecars": [own], "initContainers": [{"name": "b", "image": "a:1"}]}
    spec = workload(helm_4.render(values))["spec"]["template"]["spec"]
    assert spec["containers"][1]["securityContext"]["readOnlyRootFilesystem"] is False
    assert spec["containers"][1]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["initContainers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_platform_may_assign_the_users(helm_4: Helm) -> None:
    spec = workload(helm_4.render({"podSecurity": {"assignedByPlatform": True}}))
    pod = spec["spec"]["template"]["spec"]
    for context in (pod["securityContext"], pod["containers"][0]["securityContext"]):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
        assert context["runAsNonRoot"] is True


def test_labels_and_annotations_are_everywhere(helm_4: Helm) -> None:
    manifests = helm_4.render(
        {
            "commonLabels": {"team": "agents", "app.kubernetes.io/name": "no"},
            "commonAnnotations": {"owner": "a"},
        },
        example="production",
    )
    for each in manifests:
        assert each["metadata"]["labels"]["team"] == "agents"
        assert each["metadata"]["labels"]["app.kubernetes.io/name"] == "kotaemon-grpc"
        assert each["metadata"]["annotations"]["owner"] == "a"
    template = workload(manifests)["spec"]["template"]["metadata"]
    assert template["annotations"]["owner"] == "a"


def test_extra_objects_may_be_text_with_templates(helm_4: Helm) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-more'}"
    manifests = helm_4.render({"extraObjects": [text]})
    assert only(manifests, "ConfigMap", "agents-more")


def test_long_names_are_cut_and_differ(helm_4: Helm) -> None:
    names = set()
    for release in ("a" * 53, "a" * 52 + "b"):
        manifests = helm_4.render(release=release)
        assert all(len(each["metadata"]["name"]) <= 63 for each in manifests)
        names.add(workload(manifests)["metadata"]["name"])
    assert len(names) == 2
