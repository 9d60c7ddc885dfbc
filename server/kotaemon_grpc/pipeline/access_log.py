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
        self.lines = lines
        self._draw = draw
        self.choose(sample_ok=sample_ok, slow_s=slow_s)

    def choose(self, *, sample_ok: float, slow_s: float) -> None:
        """Choose which of the calls that end from now on have a line; see above."""
        self.writes_all = sample_ok >= 1
        self._sample_ok = sample_ok
        self._slow_s = slow_s

    def observer(self, method: Method) -> _MethodLog:
        """Prepare what is the same for every call of a method."""
        return _MethodLog(self, method)

    def is_left_out(self, call: Call) -> bool:
        """Tell whether a call that ended with OK has no line."""
        return call.elapsed_s < self._slow_s and self._draw() >= self._sample_ok


class _MethodLog:
    def __init__(self, log: AccessLog, method: Method) -> None:
        self._log = log
        self._lines = log.lines
        self._service = method.service
        self._name = method.name

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        if code is _OK:
            if self._log.writes_all or not self._log.is_left_out(call):
                self._lines.later("info", names.EVENT_CALL, self._fields, call, code)
            return
        level = _LEVELS.get(call.reason, "info")
        fields = self._fields(call, code)
        fields[names.KEY_REASON] = call.reason
        if level != "info":
            fields[names.KEY_EXCEPTION] = without_words(call.error)
        self._lines.write(level, names.EVENT_CALL, fields)

    def _fields(self, call: Call, code: grpc.StatusCode) -> dict[str, object]:
        """Make the fields of the line of a call that has ended: nothing of it changes any more."""
        return {
            names.KEY_SERVICE: self._service,
            names.KEY_METHOD: self._name,
            names.KEY_CODE: code.name,
            names.KEY_DURATION_MS: int(call.elapsed_s * _US_PER_S) / _US_PER_MS,
            names.KEY_RECEIVED: call.received,
            names.KEY_SENT: call.sent,
            names.KEY_BYTES_RECEIVED: call.received_bytes,
            names.KEY_BYTES_SENT: call.sent_bytes,
            names.KEY_PRINCIPAL: call.principal,
            names.KEY_TENANT: call.tenant,
            names.KEY_CREDENTIAL: call.credential,
            names.KEY_TRACE_ID: call.trace_id,
            names.KEY_REQUEST_ID: call.request_id,
        }
