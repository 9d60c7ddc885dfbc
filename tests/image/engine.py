"""Docker or podman, as far as the tests of the image need one."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

USER = "10001:10001"
DATA = "/var/lib/kotaemon-grpc"
POLL_S = 0.05
START_LIMIT_S = 60
SHUT_IN = [
    "--read-only",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    f"--user={USER}",
    "--network=none",
]
"""What the restricted Pod Security Standard and the chart ask for."""


@dataclass(frozen=True)
class Engine:
    """What runs containers of one image.

    Args:
        tool: docker or podman.
        image: the reference of the image.
        started: containers that were started and not removed yet.
    """

    tool: str
    image: str
    started: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the tool to its end."""
        return subprocess.run(
            [self.tool, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_LIMIT_S,
        )

    def succeed(self, *arguments: str) -> str:
        """Run the tool, which has to succeed, and return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{self.tool} {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    def describe(self) -> dict[str, Any]:
        """Return what the image says of itself."""
        (described,) = json.loads(self.succeed("image", "inspect", self.image))
        return described["Config"]

    def export(self, archive: Path) -> None:
        """Write all files of the image as a tar archive."""
        container = self.succeed("create", *self._limits(), self.image)
        try:
            self.succeed("export", f"--output={archive}", container)
        finally:
            self.succeed("rm", container)

    def once(self, *verb: str, volumes: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a verb, or what the image runs by itself, in a shut-in container to its end."""
        options = [f"--volume={each}" for each in volumes]
        return self.run("run", "--rm", *SHUT_IN, *self._limits(), *options, self.image, *verb)

    def start(self, *options: str) -> Container:
        """Start what the image starts by itself, with a volume for its data."""
        data = f"--volume={DATA}"
        container = self.succeed("create", *self._limits(), data, *options, self.image)
        # A container that does not start has to be removed too.
        self.started.append(container)
        self.succeed("start", container)
        return Container(self, container)

    def remove_all(self) -> None:
        """Remove the containers that were started, with their volumes."""
        while self.started:
            self.succeed("rm", "--force", "--volumes", self.started.pop())

    def _limits(self) -> list[str]:
        # podman asks for as much as there is, which not everybody may have.
        return ["--ulimit=nofile=4096", "--ulimit=nproc=2048"] if self.tool == "podman" else []


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    engine: Engine
    name: str

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the image inside."""
        return self.engine.run("exec", self.name, *command)

    def python(self, program: str) -> str:
        """Run a program in the image's Python, as there is nothing else to look around with."""
        done = self.execute("python", "-c", program)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def state(self) -> dict[str, Any]:
        """Return whether and since when it runs."""
        (described,) = json.loads(self.engine.succeed("container", "inspect", self.name))
        return described["State"]

    def events(self) -> list[dict[str, Any]]:
        """Return what the server logged."""
        logs = self.engine.succeed("logs", self.name)
        return [json.loads(line) for line in logs.splitlines()]

    def wait_until_serving(self) -> dict[str, Any]:
        """Return the event with which the server says that it serves."""
        give_up = time.monotonic() + START_LIMIT_S
        while time.monotonic() < give_up:
            serving = [each for each in self.events() if each["event"] == "server.serving"]
            if serving:
                return serving[0]
            assert self.state()["Running"], self.engine.run("logs", self.name).stderr
            time.sleep(POLL_S)
        raise AssertionError(f"it does not serve: {self.events()}")

    def seconds_to_ready(self) -> float:
        """Return the time from the start of the container to the server's word that it serves."""
        serving = moment(self.wait_until_serving()["timestamp"])
        return (serving - moment(self.state()["StartedAt"])).total_seconds()


def moment(text: str) -> datetime:
    """Read a time of RFC 3339, of which Python takes no more than six decimals."""
    head, _, rest = text.partition(".")
    digits = rest.rstrip("Z").partition("+")[0][:6]
    return datetime.fromisoformat(f"{head}.{digits:0<6}+00:00")
