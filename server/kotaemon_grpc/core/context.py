"""What a call brings along beside its request."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kotaemon_grpc.core.caller import Caller


@dataclass(frozen=True, slots=True)
class Context:
    """Who calls, and until when an answer is of use.

    A call that is cancelled, or whose time is up, is cancelled as an asyncio task
    is: whoever works for it sees `CancelledError` at the next `await`, and lets it rise.

    Args:
        caller: who calls.
        deadline_s: when the answer is of no use any more, as `time.monotonic` counts;
            infinite if it always is.
        request_id: the caller's name for what is asked, by which all attempts at it are
            known; empty if it has none. An answer is remembered under it once it is whole;
            when the server dies before, another attempt asks the engine again. An engine
            whose work has effects keeps the id, with the caller's tenant and principal,
            beside them, and leaves out what it finds done: after a kill -9 only it can know.
    """

    caller: Caller
    deadline_s: float = math.inf
    request_id: str = ""

    def remaining_s(self) -> float:
        """Return how many seconds are left, at least 0: the timeout of what is waited for."""
        return max(0.0, self.deadline_s - time.monotonic())
