"""The one wrapper around every handler.

A handler here is a method of a servicer that takes a request (or an iterator of
them) and the `Caller`, and returns a response (or is a generator of them). It
knows nothing of gRPC: it raises errors of the domain. The seam makes of it what
`grpc.aio` calls. It is built once, when the method is registered; everything
that a stage can look up by the method is looked up then.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError

from kotaemon_grpc.auth.mtls import caller_of
from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument
from kotaemon_grpc.pipeline.errors import code_and_reason, status_of
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.wire.headers import REQUEST_ID, STATUS_DETAILS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from google.protobuf.message import Message
    from google.rpc import status_pb2

    from kotaemon_grpc.core.model import Caller

MAX_REQUEST_ID_CHARS = 128

_REQUEST_ID = re.compile(r"[\x21-\x7e]+")  # visible ASCII, RFC 9110, section 5.5
_TYPES = {
    (False, False): names.TYPE_UNARY,
    (True, False): names.TYPE_CLIENT_STREAM,
    (False, True): names.TYPE_SERVER_STREAM,
    (True, True): names.TYPE_BIDI_STREAM,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one service, as it is registered.

    Args:
        service: the full name, as `kotaemon.v2.AgentService`.
        name: as `AskQuestion`.
        request: the class of its requests.
        failure_message: makes the terminal event of a stream that fails, from the
            status and the event's place in the stream; None where the contract has none.
    """

    service: str
    name: str
    client_streaming: bool
    server_streaming: bool
    request: type[Message]
    failure_message: Callable[[status_pb2.Status, int], Message] | None = None

    @property
    def type(self) -> str:
        """The kind, as grpc-ecosystem's metrics spell it: `unary`, `bidi_stream`, …."""
        return _TYPES[self.client_streaming, self.server_streaming]


@dataclass(slots=True)
class Call:
    """One call on its way: what the stages see of it.

    `reason` and `error` say why it failed; they are empty while it has not.
    """

    method: Method
    caller: Caller
    request_id: str
    started_s: float = field(default_factory=time.perf_counter)
    received: int = 0
    sent: int = 0
    reason: str = ""
    error: BaseException | None = None

    @property
    def elapsed_s(self) -> float:
        """The time since the call began."""
        return time.perf_counter() - self.started_s


class Observer(Protocol):
    """What is told of the calls of one method. Its methods must not block or raise."""

    def on_start(self, call: Call) -> None:
        """Take note that a call began."""
        ...

    def on_received(self, call: Call) -> None:
        """Take note of a message that came."""
        ...

    def on_sent(self, call: Call) -> None:
        """Take note of a message that goes out."""
        ...

    def on_end(self, call: Call, code: grpc.StatusCode) -> None:
        """Take note of how the call ended."""
        ...


class Stage(Protocol):
    """A concern of all methods."""

    def observer(self, method: Method) -> Observer:
        """Make the observer of a method; called once, when it is registered."""
        ...


class Seam:
    """Wraps handlers. `stages` see every call in their order, and its end in reverse."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Take the stages."""
        self._stages = stages

    def wrap(self, method: Method, handler: Callable[[Any, Caller], Any]) -> Callable[..., Any]:
        """Make of a servicer's method what `grpc.aio` calls."""
        wrapped = _Wrapped(method, [stage.observer(method) for stage in self._stages])
        if method.server_streaming:
            return wrapped.streaming(handler)
        return wrapped.single(handler)


class _Wrapped:
    """A method with its observers."""

    def __init__(self, method: Method, observers: Sequence[Observer]) -> None:
        self._method = method
        self._observers = tuple(observers)
        self._reversed = tuple(reversed(observers))

    def single(self, handler: Callable[[Any, Caller], Awaitable[Message]]) -> Callable[..., Any]:
        """Wrap a handler that returns one response."""

        async def call_handler(request: Any, context: grpc.aio.ServicerContext) -> Message:
            call = self._start(context)
            try:
                response = await handler(self._received(call, request), call.caller)
                self._sent(call)
            except BaseException as error:
                await self._fail(call, context, error)
                raise
            self._end(call, grpc.StatusCode.OK)
            return response

        return call_handler

    def streaming(self, handler: Callable[[Any, Caller], Any]) -> Callable[..., Any]:
        """Wrap a handler that is a generator of responses."""

        async def call_handler(
            request: Any, context: grpc.aio.ServicerContext
        ) -> AsyncIterator[Message]:
            call = self._start(context)
            try:
                async with aclosing(
                    handler(self._received(call, request), call.caller)
                ) as responses:
                    async for response in responses:
                        self._sent(call)
                        yield response
            except Exception as error:
                if self._method.failure_message is None:
                    await self._fail(call, context, error)
                    raise
                self._sent(call)
                # Before the event: the client may be gone by then, and nothing goes on after it.
                status = self._failed(call, error)
                yield self._method.failure_message(status, call.sent)
                await _abort(call, context, status)
            except BaseException as error:
                await self._fail(call, context, error)
                raise
            self._end(call, grpc.StatusCode.OK)

        return call_handler

    def _start(self, context: grpc.aio.ServicerContext) -> Call:
        request_id = ""
        for key, value in context.invocation_metadata() or ():
            # What cannot stand in a header would fail on its way back.
            if key == REQUEST_ID and isinstance(value, str) and _REQUEST_ID.fullmatch(value):
                request_id = value[:MAX_REQUEST_ID_CHARS]
        call = Call(
            method=self._method,
            caller=caller_of(context.auth_context()),
            request_id=request_id or uuid.uuid4().hex,
        )
        for observer in self._observers:
            observer.on_start(call)
        return call

    def _received(self, call: Call, request: Any) -> Any:
        if self._method.client_streaming:
            return self._messages(call, request)
        return self._message(call, request)

    async def _messages(self, call: Call, requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        async for request in requests:
            yield self._message(call, request)

    def _message(self, call: Call, request: bytes) -> Message:
        """Read a message here, where what it does wrong is answered as all else is."""
        call.received += 1
        for observer in self._observers:
            observer.on_received(call)
        try:
            return self._method.request.FromString(request)
        except DecodeError:
            name = self._method.request.DESCRIPTOR.full_name
            raise InvalidArgument(
                FieldViolation("", f"the message is not a valid {name}")
            ) from None

    def _sent(self, call: Call) -> None:
        call.sent += 1
        for observer in self._observers:
            observer.on_sent(call)

    async def _fail(
        self, call: Call, context: grpc.aio.ServicerContext, error: BaseException
    ) -> None:
        """End a call that failed. Does not return for an `Exception`: it aborts the call."""
        if isinstance(error, Exception):
            await _abort(call, context, self._failed(call, error))
        call.error = error
        self._end(call, _code_of_interruption(error, context))

    def _failed(self, call: Call, error: Exception) -> status_pb2.Status:
        """Tell the stages that a call failed; return what its caller is to be told."""
        code, call.reason = code_and_reason(error)
        call.error = error
        self._end(call, code)
        return status_of(error, call.request_id)

    def _end(self, call: Call, code: grpc.StatusCode) -> None:
        for observer in self._reversed:
            observer.on_end(call, code)
        # Its traceback refers to the call: together they would keep the request's bytes.
        call.error = None


async def _abort(
    call: Call, context: grpc.aio.ServicerContext, status: status_pb2.Status
) -> NoReturn:
    """Raise what ends the call. Of the cause, core would show the caller the text."""
    await context.abort(
        _CODES[status.code],
        status.message,
        ((STATUS_DETAILS, status.SerializeToString()), (REQUEST_ID, call.request_id)),
    )
    raise AssertionError("abort raises")


def _code_of_interruption(
    error: BaseException, context: grpc.aio.ServicerContext
) -> grpc.StatusCode:
    if isinstance(error, asyncio.CancelledError):
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
