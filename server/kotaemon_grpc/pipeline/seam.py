"""The one wrapper around every handler, of all four kinds.

`grpc.aio` hands it bytes and is given bytes. What a handler is, a method of a
servicer that knows no gRPC or one that speaks it, is the business of
`registration` and `native`: here it is a function of the request and the call.
The wrapper is built once, when the method is registered; everything that a
concern can look up by the method is looked up then.

A call passes the observers (trace, metrics, access log, audit), then the guards
(deadline, identity, policy, rates), then the handler. Whatever is raised on the
way becomes a `google.rpc.Status` here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError

from kotaemon_grpc.core.errors import FieldViolation, InvalidArgument
from kotaemon_grpc.pipeline.call import Call
from kotaemon_grpc.pipeline.ending import Ending, ending_of
from kotaemon_grpc.pipeline.exchange import abort, require_whole, send_last
from kotaemon_grpc.pipeline.exchange import send as send_message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from kotaemon_grpc.pipeline.call import Guard, Method, Stage

    Send = Callable[[Call, Any], Awaitable[None]]

_LOGGER = logging.getLogger(__name__)
_LEAVING_S = 0.05  # what core takes to say that a client has gone
_LATE_S = 0.1  # by how much a call may reach us later than its end does
_W = TypeVar("_W", bound="_Wrapper")
_HOOKS = ("on_start", "on_received", "on_request", "on_sent", "on_failed", "on_end")


class Seam:
    """Wraps handlers.

    Args:
        stages: see every call in their order, and its end in reverse.
        guards: let a call pass in their order, or refuse it.
    """

    def __init__(self, stages: Sequence[Stage], guards: Sequence[Guard]) -> None:
        self._stages = stages
        self._guards = guards
        self._wrappers: list[_Wrapper] = []

    def replace_guards(self, guards: Sequence[Guard]) -> None:
        """Let others decide from now on, for all handlers at once; calls that run go on."""
        self._guards = guards
        admissions = [each.admissions_by(guards) for each in self._wrappers]
        for wrapper, replaced in zip(self._wrappers, admissions, strict=True):
            wrapper.admissions = replaced

    def unary(
        self, method: Method, handler: Callable[[Any, Call], Awaitable[Any]]
    ) -> Callable[..., Any]:
        """Wrap a handler of a request, or of an iterator of them, that returns its response."""
        return self._kept(_Unary(method, handler, self._stages, self._guards)).serve

    def stream(
        self,
        method: Method,
        handler: Callable[[Any, Call, Send], AsyncGenerator[Any, None]],
    ) -> Callable[..., Any]:
        """Wrap a generator of responses, which may also send some itself."""
        return self._kept(_Stream(method, handler, self._stages, self._guards)).serve

    def _kept(self, wrapper: _W) -> _W:
        self._wrappers.append(wrapper)
        return wrapper


class _Wrapper:
    """What both shapes share: a method with all that was resolved for it."""

    def __init__(
        self,
        method: Method,
        handler: Callable[..., Any],
        stages: Sequence[Stage],
        guards: Sequence[Guard],
    ) -> None:
        self._method = method
        self._streams_in = method.client_streaming
        self._write = method.write
        self._handler = handler
        observers = [stage.observer(method) for stage in stages]
        hooks = [
            tuple(hook for each in observers if (hook := getattr(each, name, None)))
            for name in _HOOKS
        ]
        self._on_start, self._on_received, self._on_request, self._on_sent, *ends = hooks
        self._on_failed, self._on_end = (tuple(reversed(each)) for each in ends)
        self.admissions = self.admissions_by(guards)

    def admissions_by(self, guards: Sequence[Guard]) -> tuple[Callable[[Call], None], ...]:
        """Look up all that these guards can by the method."""
        return tuple(guard.admission(self._method) for guard in guards)

    async def _nothing_came(self) -> NoReturn:
        """Refuse a call that ended without its message.

        So ends one whose client left at once, too: then core says so now.
        """
        await asyncio.sleep(_LEAVING_S)
        raise InvalidArgument(FieldViolation("", f"there is no {self._method.request}"))

    async def _messages(self, call: Call) -> AsyncIterator[Any]:
        while True:
            call.reading_since_s = time.monotonic()
            request = await call.servicer_context.read()
            call.reading_since_s = 0.0
            if request is grpc.aio.EOF:
                if not self._method.server_streaming:
                    await require_whole(call)
                return
            message = self._message(call, request)
            # A stream may wait for hours for its next message: it keeps none meanwhile.
            del request
            yield message
            del message

    def _message(self, call: Call, request: bytes) -> Any:
        """Read a message here, where what it does wrong is answered as all else is."""
        call.received += 1
        call.received_bytes += len(request)
        for on_received in self._on_received:
            on_received(call)
        try:
            message = self._method.read(request)
        except DecodeError:
            raise InvalidArgument(
                FieldViolation("", f"the message is not a valid {self._method.request}")
            ) from None
        for on_request in self._on_request:
            on_request(call, message)
        return message

    def _sent(self, call: Call, response: bytes) -> None:
        call.sent += 1
        call.sent_bytes += len(response)
        for on_sent in self._on_sent:
            on_sent(call)

    def _end(self, call: Call, code: grpc.StatusCode) -> None:
        call.elapsed_s = time.monotonic() - call.started_s
        for on_end in self._on_end:
            try:
                on_end(call, code)
            except Exception:  # an observer's fault is none of the caller's
                _LOGGER.exception("an observer failed at the end of a call")
        # Its traceback refers to the call: together they would keep the request's bytes.
        call.error = None

    def _failed(self, call: Call, error: BaseException) -> tuple[Ending | None, bytes]:
        """Tell the observers why a call ends.

        Returns:
            What its caller is told, None if nobody can be told any more: the client has
            gone, or its own deadline has passed. And the terminal event to send before.
        """
        error = call.interruption() or error
        if isinstance(error, asyncio.CancelledError) and not (call.is_cancelled or call.is_left):
            # Nobody told this task to stop, so core would leave the client without an end.
            fault = RuntimeError("something that the handler waits for was cancelled")
            fault.__cause__ = error
            error = fault
        call.error = error
        if not isinstance(error, Exception):
            self._end(call, _code_of_interruption(error, call))
            return None, b""
        ending, event = ending_of(error, call), b""
        if not call.writing_since_s:  # else a message stands before it that nobody takes
            try:
                event = ending.event(self._method.failure_message, call.sent + 1)
                if event:
                    self._sent(call, event)
            except Exception as fault:  # noqa: BLE001 - of whatever it is, core would show the text
                call.error = fault
                ending, event = ending_of(fault, call), b""
        call.reason = ending.reason
        for on_failed in self._on_failed:
            try:
                on_failed(call, ending.code)
            except Exception:
                _LOGGER.exception("an observer of failures failed")
        # Before the end is sent: the client may be gone by then, and nothing goes on after it.
        self._end(call, ending.code)
        return ending, event


class _Unary(_Wrapper):
    """Serves methods with one response."""

    async def serve(self, _requests: Any, servicer_context: grpc.aio.ServicerContext) -> bytes:
        # Everything that can stand here does: a call of a function costs about as much as
        # what most of these lines do.
        call = Call(self._method, servicer_context)
        call.task = asyncio.current_task()  # type: ignore[assignment] # it runs in one
        try:
            for on_start in self._on_start:
                on_start(call)
            for admit in self.admissions:
                admit(call)
            if self._streams_in:
                request: Any = self._messages(call)
            elif (message := await servicer_context.read()) is not grpc.aio.EOF:
                request = self._message(call, message)
            else:
                await self._nothing_came()
            response = self._write(await self._handler(request, call))
            call.sent = 1
            call.sent_bytes = len(response)
            for on_sent in self._on_sent:
                on_sent(call)
        except BaseException as error:
            ending, _ = self._failed(call, error)
            if ending is not None:
                await abort(call, ending)
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
        self._end(call, grpc.StatusCode.OK)
        return response


class _Stream(_Wrapper):
    """Serves methods with any number of responses.

    A stream may wait for hours: what stands here holds little meanwhile, and nothing that
    was sent.
    """

    async def serve(self, _requests: Any, servicer_context: grpc.aio.ServicerContext) -> None:
        call = Call(self._method, servicer_context)
        call.task = asyncio.current_task()  # type: ignore[assignment] # it runs in one
        try:
            for on_start in self._on_start:
                on_start(call)
            for admit in self.admissions:
                admit(call)
            call.forget_credentials()
            if self._streams_in:
                request: Any = self._messages(call)
            elif (message := await servicer_context.read()) is not grpc.aio.EOF:
                request = self._message(call, message)
                del message
            else:
                await self._nothing_came()
            responses = self._handler(request, call, self._send)
            try:
                async for response in responses:
                    await self._send(call, response)
                    del response
            finally:
                await responses.aclose()
        except BaseException as error:
            ending, event = self._failed(call, error)
            if event:
                await send_last(call, event)
            if ending is not None:
                await abort(call, ending)
            raise
        finally:
            if call.timer is not None:
                call.timer.cancel()
        self._end(call, grpc.StatusCode.OK)

    async def _send(self, call: Call, response: Any) -> None:
        message = self._write(response)
        await send_message(call, message)
        self._sent(call, message)


def _code_of_interruption(error: BaseException, call: Call) -> grpc.StatusCode:
    if isinstance(error, asyncio.CancelledError):
        remaining_s = call.servicer_context.time_remaining()
        taken_s = time.monotonic() - call.started_s
        # The client's own clock runs out first: its header is a percent too long at the
        # most, as core rounds it up to three digits, and was on its way before it counted.
        if remaining_s is not None and remaining_s <= _LATE_S + 0.01 * taken_s:
            return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
