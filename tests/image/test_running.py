"""How the image runs: shut in as the chart shuts it in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.image.engine import DATA

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.image.engine import Container, Engine

MAX_IDLE_BYTES = 150_000_000
MAX_READY_S = 3.0
WRITES = """
import errno, os
for place in ("/", "/etc", "/opt/kotaemon-grpc/bin", "/usr/lib/python3.11"):
    try:
        open(os.path.join(place, "new"), "w")
    except OSError as error:
        print(place, errno.errorcode[error.errno])
    else:
        print(place, "written")
"""


def status_of(container: Container) -> dict[str, str]:
    """Read what the kernel says of the server."""
    text = container.python("print(open('/proc/1/status').read())")
    return dict(re.findall(r"^(\w+):\s+(.+)$", text, re.MULTILINE))


def written(container: Container) -> set[str]:
    """Try to write in several places, and return what came of it."""
    return {line.split()[1] for line in container.python(WRITES).splitlines()}


def test_the_health_command_says_that_it_serves(serving: Container) -> None:
    done = serving.execute("kotaemon-grpc", "health")
    assert (done.returncode, done.stdout.strip()) == (0, "SERVING"), done.stderr


def test_the_health_command_fails_where_nothing_serves(engine: Engine) -> None:
    done = engine.once("health")
    assert done.returncode == 1
    assert "error: no health port in plaintext can be reached at 127.0.0.1:50052" in done.stderr


def test_the_server_has_no_rights(serving: Container) -> None:
    status = status_of(serving)
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_a_read_only_root_is_no_matter(serving: Container) -> None:
    assert written(serving) == {"EROFS"}


def test_the_user_cannot_change_the_image_even_if_the_root_is_writable(
    start: Callable[..., Container],
) -> None:
    container = start("--read-only=false")
    container.wait_until_serving()
    assert written(container) == {"EACCES"}


def test_the_time_to_ready_and_the_memory_at_idle_are_within_their_limits(
    start: Callable[..., Container],
) -> None:
    container = start()
    ready_s = container.seconds_to_ready()
    idle_bytes = int(status_of(container)["VmRSS"].split()[0]) * 1024
    print(f"ready after {ready_s:.2f} s, {idle_bytes / 1e6:.1f} MB at idle")  # noqa: T201 - figures to quote
    assert 0 < ready_s <= MAX_READY_S
    assert idle_bytes <= MAX_IDLE_BYTES


def test_a_stop_drains_and_ends_well(start: Callable[..., Container]) -> None:
    container = start()
    container.wait_until_serving()
    container.engine.succeed("stop", "-t", "30", container.name)
    assert container.state()["ExitCode"] == 0
    assert [event["event"] for event in container.events()][-2:] == [
        "server.draining",
        "server.stopped",
    ]


def test_it_says_what_it_lacks(engine: Engine) -> None:
    without_volume = engine.once()
    assert without_volume.returncode == 1
    assert f'error: data directory "{DATA}" cannot be written' in without_volume.stderr
    without_certificates = engine.once(volumes=[DATA])
    assert without_certificates.returncode == 1
    assert "/etc/kotaemon-grpc-files/tls/tls.crt" in without_certificates.stderr
