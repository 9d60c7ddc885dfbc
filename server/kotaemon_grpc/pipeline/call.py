"""A method, a call of it, and what may watch a call or refuse it."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kotaemon_grpc.core.context import Context
from kotaemon_grpc.pipeline.metadata import METADATA
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.wire.headers import ACCEPT_LANGUAGE, API_KEY, AUTHORIZATION, REQUEST_ID

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    import grpc
    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from kotaemon_grpc.auth.identity import Identity
    from kotaemon_grpc.core.caller import Caller
    from kotaemon_grpc.core.errors import AgentError

MAX_REQUEST_ID_CHARS = 128

_REQUEST_ID = re.compile(r"[\x21-\x7e]+")  # visible ASCII, RFC 9110, section 5.5
_TYPES = {
    (False, False): names.TYPE_UNARY,
    (True, False): names.TYPE_CLIENT_STREAM,
    (False, True): names.TYPE_SERVER_STREAM,
    (True, True): names.TYPE_BIDI_STREAM,
}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one service, as it is registered.

    Args:
        service: the full name, as `kotaemon.v2.AgentService`.
        name: as `AskQuestion`.
        request: the full name of the type of its requests.
        read: makes a request of its bytes; raises `DecodeError`.
        write: makes the bytes of a response.
        failure_message: makes the terminal event of a stream that fails, from the
            status and the event's place in the stream; None where the contract has none.
    """

    service: str
    name: str
    client_streaming: bool
    server_streaming: bool
    request: str
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    failure_message: Callable[[status_pb2.Status, int], Message] | None = None

    @property
    def path(self) -> str:
        """The full name, as `kotaemon.v2.AgentService/AskQuestion`."""
        return f"{self.service}/{self.name}"

    @property
    def type(self) -> str:
        """The kind, as grpc-ecosystem's metrics spell it: `unary`, `bidi_stream`, …."""
        return _TYPES[self.client_streaming, self.server_streaming]


class Call:
    """One call on its way: what the stages see of it, and write down about it.

    Attributes:
        method: what is called.
        servicer_context: what `grpc.aio` knows of it.
        metadata: what the client sent along; of a key that comes twice, the last.
        trace_id: 32 hexadecimal digits, or empty; written by tracing.
        span: the span of a call that is sampled, else None; written by tracing.
        identity: who calls; None before that is known.
        caller: who calls and what it may see; None before that is known.
        elapsed_s: how long it took; written at its end.
        task: what runs its handler; written by the seam.
        timer: what will interrupt it; None without a time limit of ours.
        deadline_s: until when it may last, as `time.monotonic` counts.
        is_left: whether its client was found to be gone when it was written to.
        received, sent: messages so far.
        received_bytes, sent_bytes: their sizes as they are on the wire, uncompressed.
        resource: what a call that is audited changes; written by the audit.
        reason, error: why it failed; empty while it has not.
    """

    # What most calls never change stands here, so that a call is made of little.
    trace_id: str = ""
    span: Any = None
    identity: Identity | None = None
    caller: Caller | None = None
    deadline_s: float = 0.0
    received: int = 0
    sent: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    reason: str = ""
    resource: str = ""
    error: BaseException | None = None
    reading_since_s: float = 0.0
    writing_since_s: float = 0.0
    timer: asyncio.TimerHandle | None = None
    is_left: bool = False
    elapsed_s: float = 0.0
    task: asyncio.Task[Any]
    _request_id: str = ""
    _interruption: AgentError | None = None

    def __init__(self, method: Method, servicer_context: grpc.aio.ServicerContext) -> None:
        """Take up a call, in the task that runs its handler."""
        self.started_s = time.monotonic()
        self.method = method
        self.servicer_context = servicer_context
        given = METADATA.get(()) or ()
        self.metadata: Mapping[str, str | bytes] = dict(given)
        if len(self.metadata) < len(given):
            self.metadata = _without_doubt(given)
        if method.server_streaming:
            # What a stream starts, as its timer, keeps a copy of this context as long as it lasts.
            METADATA.set(())

    @property
    def request_id(self) -> str:
        """The client's name for the call, or one made here."""
        if not self._request_id:
            self._request_id = _request_id(self.metadata.get(REQUEST_ID))
        return self._request_id

    @property
    def principal(self) -> str:
        """Who calls; empty before that is known."""
        return self.identity.principal if self.identity else ""

    @property
    def tenant(self) -> str:
        """The caller's tenant; empty before that is known."""
        return self.identity.tenant if self.identity else ""

    @property
    def credential(self) -> str:
        """How the caller showed who it is, as `certificate+jwt`; empty before that is known."""
        return self.identity.credential if self.identity else ""

    @property
    def context(self) -> Context:
        """What the handler is told of the call."""
        if self.caller is None:
            raise RuntimeError("no stage has let the caller in")
        return Context(self.caller, self.deadline_s)

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was told to stop: by core, or as the process ends."""
        return self.task.cancelling() > 0

    def forget_credentials(self) -> None:
        """Keep no more of the metadata than its end may need: a stream may last for hours."""
        self.metadata = {
            key: value
            for key in (ACCEPT_LANGUAGE, REQUEST_ID)
            if (value := self.metadata.get(key)) is not None
        }

    def interrupt(self, error: AgentError) -> None:
        """Stop the handler where it waits; the call ends with the error."""
        self._interruption = error
        self.task.cancel()

    def interruption(self) -> AgentError | None:
        """Return what the handler was stopped with, once; what ends the call may wait again."""
        error, self._interruption = self._interruption, None
        if error is not None:
            self.task.uncancel()
        return error


class Observer(Protocol):
    """What is told of the calls of one method. Its methods must not block or raise.

    Each may be left out: what is not there is not called.
    """

    def on_start(self, call: Call) -> None:
        """Take note that a call began; nothing is known of the caller yet."""
        ...

    def on_received(self, call: Call) -> None:
        """Take note of a message that came."""
        ...

    def on_request(self, call: Call, request: Any) -> None:
        """Take note of what a message that came says."""
        ...

    def on_sent(self, call: Call) -> None:
        """Take note of a message that went out."""
        ...

    def on_failed(self, call: Call, code: grpc.StatusCode) -> None:
        """Take note that the call was refused or failed; its end follows."""
        ...

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        """Take note of how the call ended."""
        ...


class Stage(Protocol):
    """A concern that watches all methods."""

    def observer(self, method: Method) -> object:
        """Make the `Observer` of a method; called once, when it is registered."""
        ...


class Guard(Protocol):
    """A concern that may refuse calls."""

    def admission(self, method: Method) -> Callable[[Call], None]:
        """Make what raises an `AgentError` for a call of a method that is not to go on.

        Called once, when the method is registered. What it returns must not block.
        """
        ...


def _without_doubt(given: Sequence[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    """Keep the last of values that come twice, but none of two credentials: which one is it?"""
    keys = [key for key, _ in given]
    metadata = dict(given)
    for key in (AUTHORIZATION, API_KEY):
        if keys.count(key) > 1:
            metadata[key] = b""  # no credential is bytes: it is refused as one that cannot be read
    return metadata


def _request_id(given: str | bytes | None) -> str:
    # What cannot stand in a header would fail on its way back.
    if isinstance(given, str) and _REQUEST_ID.fullmatch(given):
        return given[:MAX_REQUEST_ID_CHARS]
    return f"{random.getrandbits(128):032x}"
