"""One log line a call. It never holds the text of a question, an answer or a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kotaemon_grpc.telemetry import names
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    import grpc
    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.pipeline.seam import Call, Method

_MS_PER_S = 1000.0
_FOR_THE_OPERATOR = frozenset({Reason.STORAGE_FULL, Reason.STORAGE_UNAVAILABLE})
"""Failures that go on until somebody does something about the machine."""


class AccessLog:
    """The stage. Failures that are the server's own are errors and have their trace."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        """Take where the lines go."""
        self._logger = logger

    def observer(self, method: Method) -> _MethodLog:
        """Bind what is the same for every call of a method."""
        return _MethodLog(
            self._logger.bind(**{names.KEY_SERVICE: method.service, names.KEY_METHOD: method.name})
        )


class _MethodLog:
    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._logger = logger

    def on_start(self, call: Call) -> None:
        pass

    def on_received(self, call: Call) -> None:
        pass

    def on_sent(self, call: Call) -> None:
        pass

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        line: dict[str, object] = {
            names.KEY_CODE: code.name,
            names.KEY_DURATION_MS: round(call.elapsed_s * _MS_PER_S, 3),
            names.KEY_RECEIVED: call.received,
            names.KEY_SENT: call.sent,
            names.KEY_PRINCIPAL: call.caller.principal,
            names.KEY_TENANT: call.caller.tenant,
            names.KEY_REQUEST_ID: call.request_id,
        }
        if call.reason:
            line[names.KEY_REASON] = call.reason
        if call.reason == Reason.INTERNAL:
            self._logger.error(names.EVENT_CALL, exc_info=call.error, **line)
        elif call.reason in _FOR_THE_OPERATOR:
            self._logger.warning(names.EVENT_CALL, exc_info=call.error, **line)
        else:
            self._logger.info(names.EVENT_CALL, **line)
