"""What rules and queries may ask for, and what Prometheus says of them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from pathlib import Path


# Metrics by their names on the wire: the client library adds a suffix to some kinds.
_SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")
METRICS = {
    value + suffix
    for key, value in vars(names).items()
    if isinstance(value, str)
    and key.isupper()
    and value.startswith(("kotaemon_grpc_", "grpc_server_"))
    for suffix in _SUFFIXES
}


def metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:kotaemon_grpc|grpc_server)_\w+(?!:)\b", expression))


def promtool(tools: Path, *arguments: str | Path) -> None:
    done = subprocess.run(
        [tools / "promtool", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
