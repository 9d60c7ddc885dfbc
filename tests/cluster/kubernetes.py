"""Installs the release in the cluster of $KUBECONFIG, by `helm install`.

The documents come from a ConfigMap instead of a claim, because not every cluster has volumes that
several pods can mount. Kinds of objects that the cluster does not know, such as those of
cert-manager, are made known to it without anything that acts on them, and go when the tests end.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.chart.conftest import tools_directory
from tests.chart.helm import CHART, EXAMPLES, NAMESPACE, as_yaml, workload
from tests.cluster import release
from tests.cluster.cluster import Ended
from tests.cluster.issuer import secret_manifest
from tests.cluster.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Given
    from tests.cluster.image import Image

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# When the server began, in seconds since the epoch (proc_pid_stat(5), field 22).
STARTED = """
import os, time
ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
up_s = float(open("/proc/uptime").read().split()[0])
print(time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK"))
"""
START_LIMIT_S = 300  # pulling the image among it


class Kubernetes:
    """A cluster, and in it a namespace of the tests' own."""

    def __init__(
        self, scratch: Path, manifests: list[Manifest], given: Given, image: Image
    ) -> None:
        """Take what it needs; `prepare` begins.

        Args:
            scratch: a directory for what it writes.
            manifests: the release, as Helm renders it here.
            given: what the release needs from others.
            image: what the pods run.
        """
        self._scratch = scratch
        self._manifests = manifests
        self._given = given
        self._image = image
        self._made: list[str] = []
        self._forwards: dict[tuple[str, int], tuple[subprocess.Popen[str], str]] = {}

    def prepare(self) -> None:
        """Install the release."""
        if self._try("get", "namespace", NAMESPACE).returncode == 0:
            pytest.exit(f'the namespace "{NAMESPACE}" exists, and the tests need it for them', 1)
        self._make({"apiVersion": "v1", "kind": "Namespace"}, NAMESPACE, labels=RESTRICTED)
        for missing in self._unknown_kinds():
            self._make(missing, missing["metadata"]["name"])
        priority = workload(self._manifests)["spec"]["template"]["spec"]["priorityClassName"]
        if self._try("get", "priorityclass", priority).returncode:
            kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
            self._make(kind, priority)
        for name, content in self._given.secrets.items():
            self._kubectl("apply", "--filename=-", stdin=secret_manifest(name, content))
        for name, files in {**self._given.config_maps, "handbooks": self._given.documents}.items():
            texts = {key: text.decode() for key, text in files.items()}
            head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
            self._kubectl("apply", "--filename=-", stdin={**head, "data": texts})
        # A second file of values could only add to the claim.
        example = yaml.safe_load((EXAMPLES / f"{release.EXAMPLE}.yaml").read_text())
        file = self._scratch / "values.yaml"
        file.write_text(as_yaml(example | {"documents": {"configMap": {"name": "handbooks"}}}))
        options = [f"--values={file}", "--values=-", "--wait", f"--timeout={START_LIMIT_S}s"]
        values = as_yaml(release.values(self._image))
        self._helm("install", release.NAME, str(CHART), *options, stdin=values)

    def close(self) -> None:
        """Leave nothing behind."""
        self._end_forwards()
        for made in reversed(self._made):
            self._kubectl("delete", made, "--ignore-not-found", "--wait=true")
        shutil.rmtree(self._scratch)

    def pods(self, count: int = 2) -> list[str]:
        """Name as many pods that are ready; the Deployment starts what is missing."""

        def look() -> list[str]:
            ready = [name for name, status in self._statuses().items() if _is_ready(status)]
            return ready[:count] if len(ready) >= count else []

        return until(f"{count} pods are ready", look, START_LIMIT_S)

    def address(self, pod: str, port: int) -> str:
        """Forward a port of a pod to here, and tell where it is."""
        if (pod, port) not in self._forwards:
            command = ["port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1"]
            process = subprocess.Popen(
                [*self._command(), *command], stdout=subprocess.PIPE, text=True
            )
            found = re.search(r"(127\.0\.0\.1:\d+) ->", process.stdout.readline())
            assert found, f"port {port} of {pod} cannot be reached"
            self._forwards[pod, port] = process, found[1]
        return self._forwards[pod, port][1]

    def run_inside(self, pod: str, code: str) -> str:
        """Run Python in the container of the server, and return what it printed."""
        return self._kubectl("exec", pod, "--container=server", "--", "python3", "-c", code)

    def incarnation(self, pod: str) -> str:
        """Name what is another one after a restart."""
        return _server(self._statuses()[pod])["containerID"]

    def seconds_to_ready(self, pod: str) -> float:
        """Tell how long it took from the start of the server until it said that it serves.

        The kubelet looks every two seconds, and tells of starts in whole seconds.
        """
        started = float(self.run_inside(pod, STARTED))
        lines = self._kubectl("logs", pod, "--container=server").splitlines()
        (serving,) = [each for each in map(json.loads, lines) if each["event"] == "server.serving"]
        return datetime.fromisoformat(serving["timestamp"]).timestamp() - started

    def replace_secret(self, name: str, content: dict[str, bytes]) -> None:
        """Give a Secret other content, which the kubelet brings to the pods."""
        self._kubectl("apply", "--filename=-", stdin=secret_manifest(name, content))

    def stop(self, pod: str) -> Ended:
        """Delete a pod, and wait for its end."""
        code = "{.status.containerStatuses[0].state.terminated.exitCode}{'\\n'}"
        watch = ["get", "pod", pod, "--watch", f"--output=jsonpath={code}"]
        log = subprocess.Popen(
            [*self._command(), "logs", "--follow", "--tail=20", pod],
            stdout=subprocess.PIPE,
            text=True,
        )
        watching = subprocess.Popen([*self._command(), *watch], stdout=subprocess.PIPE, text=True)
        begin_s = time.monotonic()
        self._kubectl("delete", "pod", pod, "--wait=true")
        seconds = time.monotonic() - begin_s
        watching.terminate()
        told, _ = watching.communicate()
        wrote, _ = log.communicate()
        self._end_forwards(pod)
        statuses = told.split()
        assert statuses, f"nobody saw how {pod} ended"
        return Ended(int(statuses[-1]), seconds, wrote)

    def run_test(self) -> Ended:
        """Run `helm test`."""
        begin_s = time.monotonic()
        done = self._run_helm("test", release.NAME, "--logs")
        return Ended(done.returncode, time.monotonic() - begin_s, done.stdout + done.stderr)

    def _end_forwards(self, of_pod: str = "") -> None:
        for pod, port in list(self._forwards):
            if of_pod in {"", pod}:
                forward, _ = self._forwards.pop((pod, port))
                forward.terminate()
                forward.communicate()

    def _statuses(self) -> dict[str, Manifest]:
        labels = workload(self._manifests)["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._kubectl("get", "pods", f"--selector={selector}", "--output=json")
        return {
            each["metadata"]["name"]: each["status"]
            for each in json.loads(found)["items"]
            if "deletionTimestamp" not in each["metadata"]
        }

    def _unknown_kinds(self) -> list[Manifest]:
        """Define the kinds of the release that the cluster lacks."""
        missing = []
        for kind, version in {(each["kind"], each["apiVersion"]) for each in self._manifests}:
            group, _, number = version.rpartition("/")
            path = f"/apis/{version}" if group else f"/api/{version}"
            listed = self._try("get", f"--raw={path}")
            known = json.loads(listed.stdout)["resources"] if listed.returncode == 0 else []
            if kind not in {each["kind"] for each in known}:
                missing.append(_definition(kind, group, number))
        return missing

    def _make(self, manifest: Manifest, name: str, **metadata: Any) -> None:
        """Make an object that is taken away in the end."""
        whole = {**manifest, "metadata": {**manifest.get("metadata", {}), "name": name, **metadata}}
        kind = manifest["kind"].lower()
        self._made.append(f"{kind}/{name}")
        self._kubectl("create", "--filename=-", stdin=whole)
        if kind == "customresourcedefinition":
            self._kubectl("wait", "--for=condition=Established", f"{kind}/{name}", "--timeout=60s")

    def _command(self) -> list[str]:
        return [str(tools_directory() / "kubectl"), f"--namespace={NAMESPACE}"]

    def _try(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command(), *arguments], input=stdin, capture_output=True, text=True, check=False
        )

    def _kubectl(self, *arguments: str, stdin: Manifest | None = None) -> str:
        done = self._try(*arguments, stdin=json.dumps(stdin) if stdin else "")
        assert done.returncode == 0, f"kubectl {' '.join(arguments[:3])}: {done.stderr}"
        return done.stdout.strip()

    def _run_helm(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        helm = [str(tools_directory() / "helm-4"), f"--namespace={NAMESPACE}"]
        return subprocess.run(
            [*helm, *arguments], input=stdin, capture_output=True, text=True, check=False
        )

    def _helm(self, *arguments: str, stdin: str) -> None:
        done = self._run_helm(*arguments, stdin=stdin)
        if done.returncode:
            events = self._try("get", "pods,events").stdout
            pytest.fail(f"helm {arguments[0]}: {done.stderr}\n{events}")


def _definition(kind: str, group: str, version: str) -> Manifest:
    singular = kind.lower()
    plural = singular[:-1] + "ies" if singular.endswith("y") else singular + "s"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": anything}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            # Groups of Kubernetes itself ask for it.
            "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"},
        },
        "spec": {
            "group": group,
            "names": {"kind": kind, "singular": singular, "plural": plural},
            "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }


def _server(status: Manifest) -> Manifest:
    return next(each for each in status["containerStatuses"] if each["name"] == "server")


def _is_ready(status: Manifest) -> bool:
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    return conditions.get("Ready") == "True"
