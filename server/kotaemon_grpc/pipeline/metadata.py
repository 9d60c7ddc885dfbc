"""The metadata that a call brought along, as it was read when its handler was found."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

METADATA: ContextVar[Metadata] = ContextVar("kotaemon_grpc_metadata")
"""The metadata of the call that the running task serves.

Core reads it from the wire to find the handler, and once more for whoever asks the
handler's context, which takes as long as half of the guards. What is found here is
what it read first: the handler runs in the same task.
"""
