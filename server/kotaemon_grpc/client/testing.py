"""A transport without a server, for the tests of those who use the client.

async def answer(request):
    return agent_pb2.AskQuestionResponse(answer=agent_pb2.Answer(text="42"))

client = AgentClient(tls=None, transport=FakeTransport({"AskQuestion": answer}))
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from kotaemon_grpc.client.errors import CallError, error_from_status, status_of
from kotaemon_grpc.client.sending import closed
from kotaemon_grpc.wire.reasons import DOMAIN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from kotaemon_grpc.client.transport import CallSpec

R = TypeVar("R", bound=Message)


class FakeTransport:
    """Answers calls by functions, of which each may be `async`.

    Args:
        handlers: by the name of the method, as "AskQuestion". A function gets the
            request, or, where the client streams, an asynchronous iterator of the
            requests. It returns the response, or, where the server streams, an
            asynchronous generator of the responses. It raises what is to go wrong:
            `failure` makes that. One that takes longer than the deadline is cancelled, and
            the call is DEADLINE_EXCEEDED.

    Attributes:
        calls: each attempt, with its metadata and its deadline.
        targets: those of `replace_targets`; empty before.
        is_closed: whether the client was closed.
    """

    def __init__(self, handlers: Mapping[str, Callable[[Any], Any]]) -> None:
        """Take the functions; a method that has none is UNIMPLEMENTED."""
        self._handlers = handlers
        self.calls: list[CallSpec[Any]] = []
        self.targets: tuple[str, ...] = ()
        self.is_closed = False

    async def unary(self, call: CallSpec[R], request: Message) -> R:
        """See `Transport`."""
        async with _until(_end_s(call)):
            response: R = await self._answer(call, request)
            return response

    async def client_stream(self, call: CallSpec[R], requests: AsyncIterator[Message]) -> R:
        """See `Transport`."""
        async with closed(requests), _until(_end_s(call)):
            response: R = await self._answer(call, requests)
            return response

    async def server_stream(self, call: CallSpec[R], request: Message) -> AsyncGenerator[R, None]:
        """See `Transport`."""
        async with aclosing(self._responses(call, request)) as responses:
            async for response in responses:
                yield response

    async def bidi(
        self, call: CallSpec[R], requests: AsyncIterator[Message]
    ) -> AsyncGenerator[R, None]:
        """See `Transport`."""
        async with closed(requests), aclosing(self._responses(call, requests)) as responses:
            async for response in responses:
                yield response

    async def replace_targets(self, targets: Sequence[str]) -> None:
        """Keep them in `targets`."""
        self.targets = tuple(targets)

    async def close(self) -> None:
        """Say so in `is_closed`."""
        self.is_closed = True

    async def _responses(self, call: CallSpec[R], given: Any) -> AsyncGenerator[R, None]:
        end_s = _end_s(call)
        async with _until(end_s):
            answer = await self._answer(call, given)
        async with aclosing(answer) as responses:
            while True:
                # Each wait by itself: the next one may be on another task.
                async with _until(end_s):
                    response: R | None = await anext(responses, None)
                if response is None:
                    return
                yield response

    async def _answer(self, call: CallSpec[Any], given: Any) -> Any:
        self.calls.append(call)
        name = call.method.rpartition("/")[2]
        if name not in self._handlers:
            raise failure(grpc.StatusCode.UNIMPLEMENTED, f"no handler for {name}")
        answer = self._handlers[name](given)
        return await answer if inspect.isawaitable(answer) else answer


def failure(
    code: grpc.StatusCode,
    message: str = "failed",
    *,
    reason: str = "",
    retry_after_s: float | None = None,
    retry_pushback_ms: int | None = None,
) -> CallError:
    """Make an error as if a server had sent it; `CallError` explains the arguments."""
    status = status_of(code, message)
    if reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    if retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(retry_after_s * 1e9))
        status.details.add().Pack(retry)
    error = error_from_status(status)
    error.retry_pushback_ms = retry_pushback_ms
    return error


def _end_s(call: CallSpec[Any]) -> float | None:
    """Return when a call has to end, by the clock of the loop."""
    if call.timeout_s is None:
        return None
    return asyncio.get_running_loop().time() + call.timeout_s


@asynccontextmanager
async def _until(end_s: float | None) -> AsyncGenerator[None, None]:
    """Cancel the block when the deadline passes.

    Raises:
        DeadlineError: it passed, be it that the block held up the loop.
    """
    try:
        async with asyncio.timeout_at(end_s) as bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise
    else:
        if end_s is None or asyncio.get_running_loop().time() < end_s:
            return
    raise failure(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the answer came")
