"""Runs rendered pods with `podman kube play`.

What is played is the rendered pod, but for this:

- It is a Pod with a name of its own, since podman plays a Deployment with one replica alone.
- Its annotations are left out: podman 4 refuses one of more than 63 characters.
- Its ports are left out: podman 4 publishes each on the host, where two pods cannot both have it.
  Pods are reached at their own addresses.
- Its volumes are directories of the host, which `kubelet.py` lays out as the kubelet does. podman's
  own know neither `fsGroup` nor the links by which a Secret is replaced, and it has one `emptyDir`
  of a name for all pods.
- The pod of `helm test` gets a line of /etc/hosts for the Service, as there is no DNS of a cluster.

podman ignores the probes, which the tests ask themselves, and what chooses a node.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.chart.helm import as_yaml, of_kind, only, workload
from tests.cluster.cluster import READY_LIMIT_S, Ended, is_ready
from tests.cluster.kubelet import Volumes
from tests.cluster.waiting import until

if TYPE_CHECKING:
    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Given
    from tests.cluster.image import Image

# A configuration of its own, so that nothing of the machine's is changed or left behind.
# "cgroupfs" works without systemd; the limits are said because podman else asks for more than it
# may have where it lacks CAP_SYS_RESOURCE.
CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
label = false
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{scratch}/tmp"
{runtime}
[network]
network_config_dir = "{scratch}/networks"
"""
# What the machine's own storage has can be used, but not changed.
STORAGE = """
[storage]
driver = "{driver}"
graphroot = "{scratch}/storage"
runroot = "{scratch}/run"
[storage.options]
additionalimagestores = ["{store}"]
"""

# Where CNI, which podman 4 may use, keeps what addresses are taken. It forgets to tidy it.
ADDRESSES = Path("/var/lib/cni/networks")


class Podman:
    """A node that is podman."""

    def __init__(
        self, scratch: Path, manifests: list[Manifest], given: Given, image: Image
    ) -> None:
        """Take what it needs; `prepare` begins.

        Args:
            scratch: all that it keeps, but the image.
            manifests: the release.
            given: what the release needs from others.
            image: what the pods run.
        """
        self._scratch = scratch
        self._manifests = manifests
        self._network = scratch.name
        self._given = given
        self._image = image
        self._pods: dict[str, float] = {}
        self._played = 0
        self._volumes = Volumes(scratch / "volumes")
        self._environment = _environment(scratch)

    def prepare(self) -> None:
        """Set it up, without a pod."""
        _configure(self._scratch)
        if self._image.tool == "docker":
            self._take_from_docker(self._image.name)
        self._refuse_unless_containers_run()
        self._podman("network", "create", self._network)
        self._volumes.claim("handbooks", self._given.documents)
        for name, content in self._given.secrets.items():
            self._volumes.put("secret", name, content)
        rendered = {
            each["metadata"]["name"]: {key: text.encode() for key, text in each["data"].items()}
            for each in of_kind(self._manifests, "ConfigMap")
        }
        for name, content in (rendered | self._given.config_maps).items():
            self._volumes.put("configMap", name, content)

    def close(self) -> None:
        """Leave nothing behind."""
        if (self._scratch / "storage.conf").exists():  # without it, podman has others' pods
            self._podman("pod", "rm", "--force", "--all", "--time=0")
            self._podman("network", "rm", "--force", self._network)
            shutil.rmtree(ADDRESSES / self._network, ignore_errors=True)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in reversed(mounts):
            if Path(mount).is_relative_to(self._scratch):
                unmount = ["umount", "--lazy", mount]
                subprocess.run(unmount, check=True)
        shutil.rmtree(self._scratch)

    def pods(self, count: int = 2) -> list[str]:
        """Name as many pods that are ready, and start what is missing."""
        template = workload(self._manifests)["spec"]["template"]
        while len(self._pods) < count:
            # One after the other: two that start at once on a small machine slow each other down.
            self._played += 1
            name = f"{workload(self._manifests)['metadata']['name']}-{self._played}"
            self._play(name, template)
            self._pods[name] = self._wait_until_ready(name)
        return list(self._pods)[:count]

    def address(self, pod: str, port: int) -> str:
        """Tell where a port of a pod can be reached from here, as host:port."""
        infra = self._podman("pod", "inspect", pod, "--format={{.InfraContainerID}}")
        networks = self._inspect(infra)["NetworkSettings"]["Networks"]
        return f"{networks[self._network]['IPAddress']}:{port}"

    def run_inside(self, pod: str, code: str) -> str:
        """Run Python in the container of the server, and return what it printed."""
        return self._podman("exec", f"{pod}-server", "python3", "-c", code)

    def incarnation(self, pod: str) -> str:
        """Name what is another one after a restart."""
        state = self._inspect(f"{pod}-server")["State"]
        return f"PID {state['Pid']} since {state['StartedAt']}"

    def seconds_to_ready(self, pod: str) -> float:
        """Tell how long it took from the start of the container until it was ready."""
        return self._pods[pod]

    def replace_secret(self, name: str, content: dict[str, bytes]) -> None:
        """Give a Secret other content."""
        self._volumes.put("secret", name, content)

    def stop(self, pod: str) -> Ended:
        """Stop a pod with the grace that was rendered, and wait for its end."""
        del self._pods[pod]
        spec = workload(self._manifests)["spec"]["template"]["spec"]
        begin_s = time.monotonic()
        self._podman("stop", f"--time={spec['terminationGracePeriodSeconds']}", f"{pod}-server")
        ended = self._ended(f"{pod}-server", time.monotonic() - begin_s)
        self._podman("pod", "rm", "--force", "--time=0", pod)
        return ended

    def run_test(self) -> Ended:
        """Run the pod of `helm test`."""
        pod = only(self._manifests, "Pod")
        name = pod["metadata"]["name"]
        address, _, _ = self.address(self.pods(1)[0], 0).partition(":")
        names = only(self._manifests, "Certificate", workload(self._manifests)["metadata"]["name"])
        begin_s = time.monotonic()
        aliases = [{"ip": address, "hostnames": names["spec"]["dnsNames"]}]
        self._play(name, pod, hostAliases=aliases)
        self._podman("wait", f"{name}-test")
        ended = self._ended(f"{name}-test", time.monotonic() - begin_s)
        self._podman("pod", "rm", "--force", "--time=0", name)
        return ended

    def _play(self, name: str, template: Manifest, **more: Any) -> None:
        spec = copy.deepcopy(template["spec"]) | more
        for container in spec["containers"]:
            container.pop("ports", None)
        group = spec["securityContext"]["fsGroup"]
        spec["volumes"] = [
            {
                "name": volume["name"],
                "hostPath": {
                    "path": str(self._volumes.mount(name, volume, group)),
                    "type": "Directory",
                },
            }
            for volume in spec["volumes"]
        ]
        metadata = {"name": name, "labels": template["metadata"]["labels"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        file = self._scratch / f"{name}.yaml"
        file.write_text(as_yaml(pod))
        self._podman("kube", "play", f"--network={self._network}", str(file))

    def _wait_until_ready(self, pod: str) -> float:
        container = f"{pod}-server"
        health = self.address(pod, 50052)

        def look() -> bool:
            state = self._inspect(container)["State"]
            log = "" if state["Running"] else self._log(container)
            assert state["Running"], f"the server ended with {state['ExitCode']}: {log}"
            return is_ready(health)

        until(f"{pod} is ready", look, READY_LIMIT_S)
        ready_s = time.time()
        started = self._inspect(container)["State"]["StartedAt"]
        return ready_s - datetime.fromisoformat(started[:26] + "+00:00").timestamp()

    def _ended(self, container: str, seconds: float) -> Ended:
        status = self._inspect(container)["State"]["ExitCode"]
        return Ended(status, seconds, self._log(container))

    def _inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(self._podman("inspect", "--type=container", container))
        return found

    def _log(self, container: str) -> str:
        return self._run("logs", container, stderr=subprocess.STDOUT).stdout

    def _podman(self, *arguments: str) -> str:
        done = self._run(*arguments, stderr=subprocess.PIPE)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def _run(self, *arguments: str, stderr: int) -> subprocess.CompletedProcess[str]:
        command = ["podman", *arguments]
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=self._environment,
            check=False,
        )

    def _take_from_docker(self, image: str) -> None:
        archive = self._scratch / "image.tar"
        save = ["docker", "save", f"--output={archive}", image]
        subprocess.run(save, check=True)
        self._podman("load", f"--input={archive}")
        archive.unlink()

    def _refuse_unless_containers_run(self) -> None:
        run = ["run", "--rm", "--network=none", self._image.name, "version"]
        pod = ["pod", "create", "--network=none", "--replace", "--name=trial"]
        for each in (run, pod):
            tried = self._run(*each, stderr=subprocess.PIPE)
            if tried.returncode:
                pytest.exit(f"containers cannot run here; podman says: {tried.stderr.strip()}", 1)
        self._podman("pod", "rm", "trial")


def _environment(scratch: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CONTAINERS_CONF": str(scratch / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(scratch / "storage.conf"),
    }


def _configure(scratch: Path) -> None:
    for missing, why in (
        (os.geteuid() != 0, "only root may make the network and the volumes of the tests"),
        (shutil.which("podman") is None, 'podman is missing; run "apt-get install podman"'),
    ):
        if missing:
            pytest.exit(f"containers cannot run here: {why}; or name a cluster by KUBECONFIG", 1)
    ask = ["podman", "info", "--format=json"]
    store = json.loads(subprocess.check_output(ask))["store"]
    settings = {
        "scratch": scratch,
        # crun needs cgroup v2, and runc takes both.
        "runtime": 'runtime = "runc"' if shutil.which("runc") else "",
        "store": store["graphRoot"],
        "driver": store["graphDriverName"],
    }
    (scratch / "containers.conf").write_text(CONTAINERS.format(**settings))
    (scratch / "storage.conf").write_text(STORAGE.format(**settings))
