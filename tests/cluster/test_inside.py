"""What a running container is allowed, told from inside."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.chart.helm import server

if TYPE_CHECKING:
    from tests.chart.helm import Manifest
    from tests.cluster.cluster import Cluster

USER = "10001"

STATUS = "print(open('/proc/1/status').read())"
MOUNTS = "print(open('/proc/1/mountinfo').read())"
TRY_TO_WRITE = """
import json, os, sys
outcomes = {}
for directory in %r:
    path = os.path.join(directory, "written-by-a-test")
    try:
        open(path, "w").close()
        os.remove(path)
        outcomes[directory] = ""
    except OSError as error:
        outcomes[directory] = os.strerror(error.errno)
print(json.dumps(outcomes))
"""
LOOK_FOR_SECRETS = "import os; print(os.path.exists('/var/run/secrets'))"


def test_server_is_a_user_without_rights(cluster: Cluster) -> None:
    for pod in cluster.pods():
        lines = cluster.run_inside(pod, STATUS).splitlines()
        status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        assert status["Uid"] == status["Gid"] == [USER] * 4
        assert {
            int(status[f"Cap{kind}"][0], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")
        } == {0}
        assert status["NoNewPrivs"] == ["1"]
        assert status["Seccomp"] == ["2"]  # a filter


def test_mounts_are_those_that_were_rendered(cluster: Cluster, manifests: list[Manifest]) -> None:
    fields = [line.split() for line in cluster.run_inside(cluster.pods()[0], MOUNTS).splitlines()]
    options = {each[4]: each[5].split(",") for each in fields}
    assert "ro" in options["/"]
    mounts = server(manifests)["volumeMounts"]
    assert len(mounts) > 4
    for mount in mounts:
        expected = "ro" if mount.get("readOnly") else "rw"
        assert expected in options[mount["mountPath"]], mount


def test_nothing_can_be_written_but_what_is_for_that(
    cluster: Cluster, manifests: list[Manifest]
) -> None:
    mounts = server(manifests)["volumeMounts"]
    writable = {each["mountPath"] for each in mounts if not each.get("readOnly")}
    others = {"/", "/etc", "/opt", "/usr", "/usr/bin", "/var", "/var/lib", "/srv"}
    others |= {each["mountPath"] for each in mounts} - writable
    told = cluster.run_inside(cluster.pods()[0], TRY_TO_WRITE % sorted(writable | others))
    outcomes = json.loads(told)
    assert writable == {each for each, why in outcomes.items() if not why}
    assert {outcomes[each] for each in others} == {"Read-only file system"}


def test_there_is_no_token_of_the_service_account(cluster: Cluster) -> None:
    assert cluster.run_inside(cluster.pods()[0], LOOK_FOR_SECRETS).strip() == "False"
