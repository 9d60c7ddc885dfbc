"""`health`, as a shell and a container's health check see it."""

from __future__ import annotations

import socket
from concurrent import futures
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    Command = Callable[..., subprocess.CompletedProcess[str]]


class Rude(health_pb2_grpc.HealthServicer):
    """Answers with what would set the title of a terminal."""

    def Check(self, _: object, context: grpc.ServicerContext) -> None:  # noqa: N802 - gRPC's
        context.abort(grpc.StatusCode.INTERNAL, "\x1b]0;owned\a\x9b31m it is me")


@contextmanager
def answering(status: int | None, servicer: Any = None) -> Iterator[str]:
    """A server in plaintext that is in one state for good, or knows nothing of health."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    if status is not None:
        servicer = health.HealthServicer()
        servicer.set("", status)
    if servicer is not None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_server_that_serves_is_healthy(server: Any, command: Command) -> None:
    done = command("health", server.health_address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SERVING\n", "")


def test_the_settings_say_where_to_ask(server: Any, command: Command) -> None:
    done = command("health", KOTAEMON_GRPC_SERVER__HEALTH_LISTEN=server.health_address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SERVING\n", "")


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "[::]"])  # noqa: S104 - it is the case in question
def test_what_listens_everywhere_is_asked_over_loopback(
    start: Callable[..., Any], command: Command, everywhere: str
) -> None:
    if everywhere == "[::]" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    address = start(f"--health-listen={everywhere}:0").health_address
    assert address.startswith(everywhere)
    done = command("health", f"--set=server.health_listen={address}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "SERVING\n", "")
    # What cannot be reached is named as it was called.
    refused = command("health", f"{everywhere}:1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert everywhere not in refused.stderr


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_a_proxy_is_not_asked(server: Any, command: Command, silent: str) -> None:
    proxy = f"http://{silent}"
    done = command("health", server.health_address, http_proxy=proxy, grpc_proxy=proxy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "SERVING\n", "")


def test_a_server_that_takes_no_calls_is_not_healthy(command: Command) -> None:
    with answering(health_pb2.HealthCheckResponse.NOT_SERVING) as address:
        done = command("health", address)
    assert (done.returncode, done.stdout) == (1, "NOT_SERVING\n")
    assert done.stderr == f"error: the server at {address} does not take calls\n"


def test_a_terminal_is_not_told_what_a_stranger_wants(command: Command) -> None:
    with answering(None, Rude()) as address:
        done = command("health", address)
    assert done.stderr == f"error: {address} answered INTERNAL: ]0;owned 31m it is me\n"


def test_who_knows_nothing_of_health_is_not_healthy(command: Command) -> None:
    with answering(None) as address:
        done = command("health", address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {address} answered UNIMPLEMENTED: ")


def test_the_port_of_the_calls_is_the_wrong_one(server: Any, command: Command) -> None:
    done = command("health", server.address)
    assert (done.returncode, done.stdout) == (1, "")
    reason = f"no health port in plaintext can be reached at {server.address}"
    assert done.stderr == f"error: {reason}\n"


def test_silence_ends_with_the_timeout(command: Command, silent: str) -> None:
    done = command("health", silent, "--timeout=0.2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: no answer from {silent} within 0.2 s\n"


def test_a_port_that_the_server_picks_has_to_be_named(command: Command) -> None:
    done = command("health", "--set=server.health_listen=127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "give HOST:PORT" in done.stderr


@pytest.mark.parametrize(
    "wrong", [["localhost"], ["127.0.0.1:70000"], ["--timeout=0"], ["--timeout=soon"]]
)
def test_wrong_usage_is_told_apart(command: Command, wrong: list[str]) -> None:
    done = command("health", *wrong)
    assert (done.returncode, done.stdout) == (2, "")
