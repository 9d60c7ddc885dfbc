"""How a call that failed ends: what its caller is told, ready to be sent."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from kotaemon_grpc.pipeline.errors import classify, status_of, trailers_of
from kotaemon_grpc.wire.headers import ACCEPT_LANGUAGE, REQUEST_ID
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from kotaemon_grpc.pipeline.call import Call

_LOGGER = logging.getLogger(__name__)


class Aborted(Exception):
    """A handler that speaks gRPC has ended its call itself."""

    def __init__(
        self, code: grpc.StatusCode, message: str, trailers: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        """Take what it gave to `context.abort`."""
        super().__init__(code.name)
        self.code = code
        self.message = message
        self.trailers = trailers


@dataclass(frozen=True, slots=True)
class Ending:
    """What `context.abort` takes, and the same for those who watch.

    Args:
        reason: empty if the handler ended the call itself.
        status: what the terminal event of a stream carries; None likewise.
    """

    code: grpc.StatusCode
    reason: str
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]
    status: status_pb2.Status | None

    def event(
        self, make: Callable[[status_pb2.Status, int], Message] | None, sequence_number: int
    ) -> bytes:
        """Make the terminal event of a stream; empty where the contract has none."""
        if make is None or self.status is None:
            return b""
        return make(self.status, sequence_number).SerializeToString()


def ending_of(error: Exception, call: Call) -> Ending:
    """Return how a call ends that failed with an error."""
    if isinstance(error, Aborted):
        return Ending(error.code, "", error.message, error.trailers, None)
    try:
        failure = classify(error)
        languages = call.metadata.get(ACCEPT_LANGUAGE, "")
        status = status_of(
            failure, error, call.request_id, languages if isinstance(languages, str) else ""
        )
        trailers = trailers_of(status, error, call.request_id)
    except Exception:
        # What we fail to word must not reach core, which would show the caller its text.
        _LOGGER.exception("an error could not be worded")
        return Ending(
            grpc.StatusCode.INTERNAL,
            Reason.INTERNAL,
            "internal error",
            ((REQUEST_ID, call.request_id),),
            None,
        )
    return Ending(failure.code, failure.reason, status.message, trailers, status)
