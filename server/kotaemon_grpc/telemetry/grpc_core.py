"""What gRPC's core, which is C++ and has its own logs, writes to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_GRPC_VERBOSITY = "GRPC_VERBOSITY"


def quiet_grpc_core(environ: MutableMapping[str, str]) -> None:
    """Have gRPC's core write errors alone to stderr, unless the operator asked for more.

    Core reads its environment once: call it before `grpc` is imported.
    """
    environ.setdefault(_GRPC_VERBOSITY, "ERROR")
