"""The four kinds of calls, each with its deadline, its attempts, and what watches them."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from google.protobuf.message import Message

from kotaemon_grpc.client.errors import CallError, ClientError, ConfigurationError
from kotaemon_grpc.client.events import Event, until_terminal
from kotaemon_grpc.client.hooks import Call

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterator,
        Sequence,
    )

    from kotaemon_grpc.client.attempts import Attempts, Method
    from kotaemon_grpc.client.hooks import AllHooks
    from kotaemon_grpc.client.retry import Retries
    from kotaemon_grpc.client.transport import CallSpec, Transport

T = TypeVar("T")
R = TypeVar("R", bound=Message)
E = TypeVar("E", bound=Event)

MAX_TIMEOUT_S = 86_400


class _Named(Protocol):
    request_id: str


class _List(Protocol):
    page_token: str


class _Page(Protocol):
    next_page_token: str


def new_request_id() -> str:
    """Name a request so that its repetition does nothing twice (AIP-155)."""
    return str(uuid.uuid4())


class Calls:
    """Makes the calls of a client. All but dialogues are repeated as `retries` decides.

    Args:
        transport: makes the attempts.
        attempts: says what each is made with.
        retries: decides on further ones.
        hooks: are told.
        timeout_s: the deadline of a call that does not say its own, above 0.
        clock: the seconds since some moment; that of `attempts` and `retries`.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        attempts: Attempts,
        retries: Retries,
        hooks: AllHooks,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with no calls."""
        self._transport = transport
        self._attempts = attempts
        self._retries = retries
        self._hooks = hooks
        self._timeout_s = timeout_s
        self._clock = clock
        self._is_closed = False
        self._loop = running_loop()

    async def unary(self, method: Method[R], request: Message, timeout_s: float | None = None) -> R:
        """Send one message and get one.

        Args:
            method: which.
            request: gets an id if it can have one and has none.
            timeout_s: the deadline of all attempts together; None for the client's.

        Raises:
            CallError: it failed.
            CredentialsError: there are none to show.
        """
        call = Call(method.path, self.timeout_s(timeout_s), _named(request))
        with self._watched(call):
            return await self._repeated(
                call, method, lambda spec: self._transport.unary(spec, request)
            )

    async def pages(
        self, method: Method[R], request: Message, timeout_s: float | None = None
    ) -> AsyncGenerator[R, None]:
        """Get page after page of a list, each by a call of its own (AIP-158).

        The arguments are those of `unary`; the deadline is that of each page.

        Raises:
            CallError: it failed.
            CredentialsError: there are none to show.
        """
        while True:
            page = await self.unary(method, request, timeout_s)
            yield page
            if not (token := cast("_Page", page).next_page_token):
                return
            cast("_List", request).page_token = token

    async def client_stream(
        self,
        method: Method[R],
        requests: Callable[[], AsyncIterator[Message]],
        *,
        request_id: str,
        timeout_s: float,
    ) -> R:
        """Send messages and get one. Each attempt has `requests` made anew, of the same id.

        Raises:
            CallError: it failed.
            CredentialsError: there are none to show.
        """
        call = Call(method.path, timeout_s, request_id)
        with self._watched(call):
            return await self._repeated(
                call, method, lambda spec: self._transport.client_stream(spec, requests())
            )

    async def server_stream(
        self, method: Method[E], request: Message, timeout_s: float | None = None
    ) -> AsyncGenerator[E, None]:
        """Send one message and get events. Nothing is repeated once the first has come.

        The arguments are those of `unary`.

        Raises:
            CallError: it failed; `sequence_number` says after which event.
            CredentialsError: there are none to show.
        """
        call = Call(method.path, self.timeout_s(timeout_s), _named(request))
        with self._watched(call):
            first, rest = await self._repeated(
                call,
                method,
                lambda spec: _begun(until_terminal(self._transport.server_stream(spec, request))),
            )
            async with aclosing(rest):
                yield first
                async for event in rest:
                    yield event

    async def bidi(
        self, method: Method[E], requests: AsyncIterator[Message]
    ) -> AsyncGenerator[E, None]:
        """Send messages and get events, without a deadline. Nothing is ever repeated.

        Raises:
            CallError: it failed; `sequence_number` says after which event.
            CredentialsError: there are none to show.
        """
        call = Call(method.path, None)
        with self._watched(call):
            async with (
                self._attempts.begin(call, method, 1, self._timeout_s) as spec,
                aclosing(until_terminal(self._transport.bidi(spec, requests))) as events,
            ):
                async for event in events:
                    yield event

    def timeout_s(self, given_s: float | None) -> float:
        """Return the deadline of a call: what is given, or else that of the client.

        Raises:
            ConfigurationError: it cannot be a deadline.
        """
        return self._timeout_s if given_s is None else checked_timeout_s(given_s)

    async def replace_targets(self, targets: Sequence[str]) -> None:
        """Send further calls elsewhere.

        Raises:
            ClientError: the client is closed, or belongs to another event loop.
        """
        self._refuse_closed()
        await self._transport.replace_targets(targets)

    async def close(self) -> None:
        """Give up the calls in flight; none is repeated any more."""
        self._check_loop()
        self._is_closed = True
        self._retries.close()
        await self._transport.close()

    async def _repeated(
        self,
        call: Call,
        method: Method[R],
        make: Callable[[CallSpec[R]], Awaitable[T]],
    ) -> T:
        deadline = self._clock() + (call.timeout_s or 0.0)

        async def attempt(number: int) -> T:
            self._refuse_closed()
            left_s = deadline - self._clock()
            async with self._attempts.begin(call, method, number, left_s) as spec:
                return await make(spec)

        try:
            return await self._retries.run(
                attempt,
                deadline=deadline,
                on_retry=lambda number, error, wait_s: self._hooks.on_retry(
                    call, number, error, wait_s
                ),
            )
        except CallError as error:
            # The frames of the attempt would hold its gRPC call, and be held by the error.
            raise error.with_traceback(None)  # noqa: B904 - it is the same one

    @contextmanager
    def _watched(self, call: Call) -> Iterator[None]:
        self._refuse_closed()
        started = self._clock()
        self._hooks.on_start(call)
        try:
            yield
        except BaseException as error:
            self._hooks.on_end(call, error, self._clock() - started)
            raise
        self._hooks.on_end(call, None, self._clock() - started)

    def _check_loop(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise ClientError("the client belongs to another event loop; make one for each")

    def _refuse_closed(self) -> None:
        self._check_loop()
        if self._is_closed:
            raise ClientError("the client is closed")


async def _begun(events: AsyncGenerator[E, None]) -> tuple[E, AsyncGenerator[E, None]]:
    """Wait for the first event; there is one, or an error."""
    return await anext(events), events


def _named(request: Message) -> str:
    """Give a request an id if it can have one; a message without that field changes nothing."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name:
        return ""
    named = cast("_Named", request)
    named.request_id = named.request_id or new_request_id()
    return named.request_id


def checked_timeout_s(timeout_s: float) -> float:
    """Return what can be the deadline of a call.

    Raises:
        ConfigurationError: it cannot; none at all cannot either.
    """
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if not is_number or not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise ConfigurationError(
            f"timeout_s must be above 0 and at most {MAX_TIMEOUT_S}, not {timeout_s!r}"
        )
    return timeout_s


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that a client is made on.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "there is no event loop; make the client inside an asynchronous function"
        ) from None
