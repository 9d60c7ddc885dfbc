"""One log line a call. It never holds the text of a question, an answer or a document."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import grpc

from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.exceptions import without_words
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.auth.identity import Identity
    from kotaemon_grpc.pipeline.call import Call, Method
    from kotaemon_grpc.telemetry.lines import Level, LineWriter

_OK = grpc.StatusCode.OK
_US_PER_S = 1_000_000
_US_PER_MS = 1000
_LEVELS: Final[dict[str, Level]] = {
    Reason.INTERNAL.value: "error",
    # These go on until somebody does something about the machine.
    Reason.STORAGE_FULL.value: "warning",
    Reason.STORAGE_UNAVAILABLE.value: "warning",
}


class AccessLog:
    """The stage. Failures that are the server's own are errors and have their trace.

    Args:
        lines: where the lines go.
        sample_ok: how many of the calls that end with OK and are not slow have a
            line, from 0 (none) to 1 (all). All others have one always.
        slow_s: a call is slow that takes as long or longer.
        draw: draws a number from 0 to below 1.
    """

    def __init__(
        self,
        lines: LineWriter,
        *,
        sample_ok: float = 1.0,
        slow_s: float = math.inf,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._lines = lines
        self._writes_info = lines.writes("info")
        self._sample_ok = sample_ok
        self._slow_s = slow_s
        self._draw = draw

    def observer(self, method: Method) -> _MethodLog:
        """Prepare what is the same for every call of a method."""
        return _MethodLog(self, method)

    def ended(self, call: Call, code: grpc.StatusCode, service: str, method: str) -> None:
        """Write the line of a call, if it is to have one."""
        elapsed_s = call.elapsed_s
        level: Level = "info" if code is _OK else _LEVELS.get(call.reason, "info")
        if level == "info" and not (
            self._writes_info and (code is not _OK or self._is_drawn(elapsed_s))
        ):
            return
        record = (
            (service, method, code, elapsed_s),
            (call.received, call.sent, call.received_bytes, call.sent_bytes),
            call.identity,
            (call.trace_id, call.request_id, call.reason),
        )
        if level == "info":
            self._lines.later(level, names.EVENT_CALL, _fields, *record)
        else:
            line = _fields(*record)
            line[names.KEY_EXCEPTION] = without_words(call.error)
            self._lines.write(level, names.EVENT_CALL, line)

    def _is_drawn(self, elapsed_s: float) -> bool:
        return self._sample_ok >= 1 or elapsed_s >= self._slow_s or self._draw() < self._sample_ok


class _MethodLog:
    def __init__(self, log: AccessLog, method: Method) -> None:
        self._ended = log.ended
        self._service = method.service
        self._name = method.name

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        self._ended(call, code, self._service, self._name)


def _fields(
    ended: tuple[str, str, grpc.StatusCode, float],
    sizes: tuple[int, int, int, int],
    identity: Identity | None,
    ids: tuple[str, str, str],
) -> dict[str, object]:
    """Make the fields of a line of what a call left."""
    service, method, code, elapsed_s = ended
    received, sent, received_bytes, sent_bytes = sizes
    trace_id, request_id, reason = ids
    fields: dict[str, object] = {
        names.KEY_SERVICE: service,
        names.KEY_METHOD: method,
        names.KEY_CODE: code.name,
        names.KEY_DURATION_MS: int(elapsed_s * _US_PER_S) / _US_PER_MS,
        names.KEY_RECEIVED: received,
        names.KEY_SENT: sent,
        names.KEY_BYTES_RECEIVED: received_bytes,
        names.KEY_BYTES_SENT: sent_bytes,
        names.KEY_PRINCIPAL: identity.principal if identity else "",
        names.KEY_TENANT: identity.tenant if identity else "",
        names.KEY_CREDENTIAL: identity.credential if identity else "",
        names.KEY_TRACE_ID: trace_id,
        names.KEY_REQUEST_ID: request_id,
    }
    if reason:
        fields[names.KEY_REASON] = reason
    return fields
