"""The restricted Pod Security Standard.

As https://kubernetes.io/docs/concepts/security/pod-security-standards/ states it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_PROFILES = {"RuntimeDefault", "Localhost"}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip


def violations(metadata: dict[str, Any], spec: dict[str, Any]) -> Iterator[str]:
    """Tell how a pod falls short of the standard."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        yield from (f"volume of kind {kind}" for kind in volume.keys() - _VOLUMES - {"name"})
    for key, value in metadata.get("annotations", {}).items():
        if "apparmor.security" in key and value not in {"runtime/default", ""}:
            yield f"annotation {key}"
    of_pod = spec.get("securityContext", {})
    yield from _security_context("pod", of_pod)
    for sysctl in of_pod.get("sysctls", []):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            yield from _container(container, of_pod)


def _container(container: dict[str, Any], of_pod: dict[str, Any]) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    yield from _security_context(name, own)
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name} may escalate privileges"
    yield from _capabilities(name, own.get("capabilities", {}))
    if own.get("procMount", "Default") != "Default":
        yield f"{name} has procMount"
    if own.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True:
        yield f"{name} may run as root"
    profile = own.get("seccompProfile", of_pod.get("seccompProfile", {}))
    if profile.get("type") not in _PROFILES:
        yield f"{name} has no seccomp profile"
    yield from _reach(name, container)


def _capabilities(name: str, capabilities: dict[str, list[str]]) -> Iterator[str]:
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name} keeps capabilities"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds capabilities"


def _reach(name: str, container: dict[str, Any]) -> Iterator[str]:
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{name} has a host port"
    hooks = container.get("lifecycle", {})
    probes = [container.get(f"{kind}Probe", {}) for kind in ("liveness", "readiness", "startup")]
    for handler in [*probes, *hooks.values()]:
        for action in ("httpGet", "tcpSocket"):
            if handler.get(action, {}).get("host"):
                yield f"{name} probes another host"


def _security_context(name: str, context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield f"{name} runs as user 0"
    if context.get("runAsNonRoot", True) is not True:
        yield f"{name} may run as root"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{name} has a forbidden seccomp profile"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in _PROFILES:
        yield f"{name} has a forbidden AppArmor profile"
    labels = context.get("seLinuxOptions", {})
    if labels.get("type", "") not in _SELINUX_TYPES or labels.get("user") or labels.get("role"):
        yield f"{name} has forbidden SELinux options"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name} is a host process"
