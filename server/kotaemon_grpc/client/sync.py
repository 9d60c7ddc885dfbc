"""`SyncAgentClient`: the client for programs without an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from kotaemon_grpc.client.client import DEFAULT_TARGET, AgentClient
from kotaemon_grpc.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from kotaemon_grpc.client import values
    from kotaemon_grpc.client.credentials import Credentials
    from kotaemon_grpc.client.hooks import Hooks
    from kotaemon_grpc.client.retry import RetryPolicy
    from kotaemon_grpc.client.tls import TlsFiles
    from kotaemon_grpc.client.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q")


def _waits(
    method: Callable[Concatenate[AgentClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncAgentClient, P], T]:
    @functools.wraps(method)
    def call(self: SyncAgentClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(lambda client: method(client, *args, **kwargs))

    return call


def _iterates(
    method: Callable[Concatenate[AgentClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[SyncAgentClient, P], Iterator[T]]:
    @functools.wraps(method)
    def call(self: SyncAgentClient, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._iterate(lambda client: method(client, *args, **kwargs))

    return call


class SyncAgentClient:
    """`AgentClient` for threads: its methods wait, and its streams are iterators.

    Use it as a context manager. Any thread may call it. The calls run on an event loop
    on a thread of its own, which ends with `close`. Hooks are called there.

    Args:
        target: as of `AgentClient`, and so are all further arguments.
        tls: see there.
        credentials: see there.
        timeout_s: see there.
        retry: see there.
        hooks: see there.
        transport: see there.
        server_name: see there.

    Raises:
        ConfigurationError: a file cannot be read, or a value cannot work.
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        tls: TlsFiles | None,
        credentials: Credentials | None = None,
        timeout_s: float = 60.0,
        retry: RetryPolicy | None = None,
        hooks: Iterable[Hooks] = (),
        transport: Transport | None = None,
        server_name: str = "",
    ) -> None:
        """Start the thread; it connects with the first call."""

        async def made() -> AgentClient:
            return AgentClient(
                target,
                tls=tls,
                credentials=credentials,
                timeout_s=timeout_s,
                retry=retry,
                hooks=hooks,
                transport=transport,
                server_name=server_name,
            )

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="kotaemon-grpc-client", daemon=True
        )
        self._thread.start()
        self._starting = threading.Lock()
        self._is_closed = False
        try:
            self._client = self._start(made).result()
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    ask = _waits(AgentClient.ask)
    stream = _iterates(AgentClient.stream)
    search = _waits(AgentClient.search)
    search_all = _iterates(AgentClient.search_all)
    create_conversation = _waits(AgentClient.create_conversation)
    get_conversation = _waits(AgentClient.get_conversation)
    list_conversations = _iterates(AgentClient.list_conversations)
    list_turns = _iterates(AgentClient.list_turns)
    delete_conversation = _waits(AgentClient.delete_conversation)
    create_document = _waits(AgentClient.create_document)
    import_document = _waits(AgentClient.import_document)
    get_document = _waits(AgentClient.get_document)
    list_documents = _iterates(AgentClient.list_documents)
    delete_document = _waits(AgentClient.delete_document)
    replace_targets = _waits(AgentClient.replace_targets)

    def chat(
        self,
        questions: Iterable[str | values.Question],
        *,
        collection: str = "",
        conversation: str = "",
        language: str = "",
        context: Mapping[str, str] | None = None,
    ) -> Iterator[values.AnswerEvent]:
        """Hold a dialogue, as `AgentClient.chat`.

        Args:
            questions: is read on further threads, while earlier ones are answered. One
                that waits there does not keep the program from ending.
            collection: as there.
            conversation: as there.
            language: as there.
            context: as there.

        Raises:
            CallError: it failed; `sequence_number` is that of the last event.
        """
        return self._iterate(
            lambda client: client.chat(
                _asynchronous(questions),
                collection=collection,
                conversation=conversation,
                language=language,
                context=context,
            )
        )

    def close(self) -> None:
        """Give up the calls in flight; further ones are refused."""
        with self._starting:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(_finished(self._client), self._loop).result()
        self._stop()

    def _wait(self, make: Callable[[AgentClient], Coroutine[Any, Any, T]]) -> T:
        future = self._start(lambda: make(self._client))
        try:
            return future.result()
        except BaseException:
            future.cancel()  # of a wait that was interrupted; one that has ended takes no notice
            raise

    def _iterate(self, make: Callable[[AgentClient], AsyncGenerator[T, None]]) -> Iterator[T]:
        stream = _Stream(make(self._client))
        try:
            while (event := self._wait(lambda _: stream.next())) is not None:
                yield event
        finally:
            # Nobody waits for it: an iterator may be dropped on any thread, the loop's too.
            with suppress(ClientError):
                self._start(stream.close)

    def _start(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        with self._starting:
            if self._is_closed:
                raise ClientError("the client is closed")
            return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Stream(Generic[T]):
    """An asynchronous generator that is closed only when it does not run."""

    def __init__(self, events: AsyncGenerator[T, None]) -> None:
        self._events = events
        self._running = asyncio.Lock()

    async def next(self) -> T | None:
        async with self._running:
            return await anext(self._events, None)

    async def close(self) -> None:
        async with self._running:
            await self._events.aclose()


async def _finished(client: AgentClient) -> None:
    await client.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


async def _asynchronous(questions: Iterable[Q]) -> AsyncIterator[Q]:
    iterator = iter(questions)
    while (question := await _next(iterator)) is not None:
        yield question


async def _next(iterator: Iterator[Q]) -> Q | None:
    """Wait for the next one, or None, on a thread that nobody joins: it may wait for ever."""
    future: Future[Q | None] = Future()
    future.set_running_or_notify_cancel()  # from here on, to give up the wait leaves it alone
    context = contextvars.copy_context()

    def read() -> None:
        try:
            future.set_result(context.run(next, iterator, None))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller gets it
            future.set_exception(error)

    threading.Thread(target=read, name="kotaemon-grpc-questions", daemon=True).start()
    return await asyncio.wrap_future(future)
