"""What runs the rendered pods: the interface of its two kinds, `podman` and `kubernetes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

READY_LIMIT_S = 120


@dataclass(frozen=True)
class Given:
    """What the release needs from others, by the name of the object.

    Args:
        secrets: what cert-manager would have made.
        config_maps: of others.
        documents: the files of the claim "handbooks".
    """

    secrets: dict[str, dict[str, bytes]]
    config_maps: dict[str, dict[str, bytes]]
    documents: dict[str, bytes]


@dataclass(frozen=True)
class Ended:
    """How a container ended.

    Args:
        status: its exit status.
        seconds: from the request to stop, or the start, to the end.
        log: what it wrote.
    """

    status: int
    seconds: float
    log: str


class Cluster(Protocol):
    """Runs the release."""

    def prepare(self) -> None:
        """Set up what the pods need."""

    def close(self) -> None:
        """Leave nothing behind."""

    def pods(self, count: int = 2) -> list[str]:
        """Name as many pods that are ready, and start what is missing."""

    def address(self, pod: str, port: int) -> str:
        """Tell where a port of a pod can be reached from here, as host:port."""

    def run_inside(self, pod: str, code: str) -> str:
        """Run Python in the container of the server, and return what it printed."""

    def incarnation(self, pod: str) -> str:
        """Name what is another one after a restart."""

    def seconds_to_ready(self, pod: str) -> float:
        """Tell how long it took from the start of the container until it was ready."""

    def replace_secret(self, name: str, content: dict[str, bytes]) -> None:
        """Give a Secret other content."""

    def stop(self, pod: str) -> Ended:
        """Stop a pod with the grace that was rendered, and wait for its end."""

    def run_test(self) -> Ended:
        """Run the pod of `helm test`."""


def is_ready(address: str, service: str = "", timeout_s: float = 1) -> bool:
    """Ask as a gRPC probe does."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
