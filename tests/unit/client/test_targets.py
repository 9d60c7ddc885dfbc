"""Which targets a client takes, and which of them are on its own machine."""

from __future__ import annotations

import pytest

from kotaemon_grpc.client import ConfigurationError
from kotaemon_grpc.client.targets import host_of, is_local, targets_of


@pytest.mark.parametrize(
    ("given", "targets"),
    [
        ("h:1", ("h:1",)),
        (["b:1", "a:1", "b:1"], ("b:1", "a:1")),
        (iter(["a:1"]), ("a:1",)),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", ("ipv4:10.0.0.1:1", "ipv4:10.0.0.2:1")),
        ("ipv6:[::1]:1,[::2]:1", ("ipv6:[::1]:1", "ipv6:[::2]:1")),
        ("dns:///h.example:50051", ("dns:///h.example:50051",)),
        ("dns://8.8.8.8/h.example:50051", ("dns://8.8.8.8/h.example:50051",)),
        ("unix:/run/k.sock", ("unix:/run/k.sock",)),
        ("[::1]:50051", ("[::1]:50051",)),
    ],
)
def test_targets_are_taken_one_by_one(given: object, targets: tuple[str, ...]) -> None:
    assert targets_of(given) == targets  # type: ignore[arg-type] # all that is taken


@pytest.mark.parametrize(
    "given",
    [
        [],
        "",
        ["a:1", ""],
        "a:1,b:1",
        "a:0",
        "a:65536",
        "a:x",
        "a:",
        ":50051",
        "a b:1",
        "hé:1",
        "h\n:1",
        "ipv4:h.example:1",
        "ipv4:10.0.0.1:1,",
        "https://h.example:1",
        "dns:///",
        "h.example",
        "dns:///h.example",
        "::1",
        "[::1]",
        "[h.example]:1",
        "ipv4:10.0.0.1",
        "unix:",
        "unix:///",
    ],
)
def test_what_cannot_be_a_target_is_refused(given: str | list[str]) -> None:
    with pytest.raises(ConfigurationError):
        targets_of(given)


@pytest.mark.parametrize(
    "target",
    [
        "localhost:1",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:1",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "dns:///localhost:1",
        "unix:/run/k.sock",
    ],
)
def test_these_are_on_this_machine(target: str) -> None:
    assert is_local(target)


@pytest.mark.parametrize(
    "target",
    [
        "10.0.0.1:1",
        "localhost.example:1",
        "127.0.0.1.example:1",
        "[2001:db8::1]:1",
        "dns://localhost/h.example:1",
        "dns:///h.example:1",
        "ipv4:10.0.0.1:1",
        "0.0.0.0:1",
    ],
)
def test_these_may_be_elsewhere(target: str) -> None:
    assert not is_local(target)


def test_the_host_of_a_target_is_without_brackets() -> None:
    assert host_of("[::1]:1") == "::1"
    assert host_of("dns:///h.example:1") == "h.example"
