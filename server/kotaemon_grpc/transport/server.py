"""A `grpc.aio` server that takes its calls from core in a way of its own.

That of grpcio 1.85 reads the path of each call as UTF-8 in the one loop that accepts
all calls, so that one path that is not ends the server. And it asks core for one call at
a time, with a task and a wait for each, so that a server under load goes round its event
loop once a call. Here core itself finds the method among those that are registered, no
path is ever read, and several calls are asked for ahead.

What grpcio does with a call once it is accepted is used as it is. Both sides of that
line are private to grpcio: its release is pinned, and the tests of this module show
what is relied on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc._cython import cygrpc
from grpc._cython.cygrpc import _handle_rpc, _RequestCallError, _schedule_rpc_coro
from grpc.aio import _server as aio_server

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    import grpc

CALLS_AHEAD = 12
"""How many calls of a method may arrive before the loop comes round to them.

A further one waits in core. Each costs a few KB a method. With more of them, more of an
overload waits in the event loop, and refusals come late. 4 gain about half as much.
"""

_NO_METHOD = "/"
_NO_LIMIT_REACHED = False


class Server(aio_server.Server):  # type: ignore[misc] # untyped
    """A server that has all its methods from the start.

    Args:
        handlers: by path, as `/kotaemon.v2.AgentService/AskQuestion`. A call of any other
            ends with UNIMPLEMENTED.
        options: the channel arguments.
        on_call: is told the metadata of a call, in the task that then runs its handler.
        lasting: the paths whose calls `end_untaken` leaves alone.
    """

    def __init__(
        self,
        handlers: Mapping[str, grpc.RpcMethodHandler],
        options: Sequence[tuple[str, Any]] = (),
        *,
        on_call: Callable[[Sequence[tuple[str, str | bytes]]], object] = len,
        lasting: Container[str] = (),
    ) -> None:
        # Not the base class's own, which makes the server that this one replaces.
        self._loop = cygrpc.get_working_loop()
        self._server = _Acceptor(self._loop, _Methods(handlers, on_call), options)
        self._server.add_registered_method_handlers(dict(handlers))
        self._lasting = lasting
        self._untaken: set[_Accepted] = set()

    def end_untaken(self, running: Container[asyncio.Task[Any] | None]) -> None:
        """Reset the calls whose handlers had already ended when this was called the last time.

        Their clients do not take what the handlers left to core, which would keep it for as
        long as the connection lives. Core resets a call when nothing refers to it any more.

        Args:
            running: the tasks whose handlers have not ended.
        """
        waiting = {
            each
            for each in self._server.calls.values()
            if each.task and each.task not in running and each.path not in self._lasting
        }
        for task, accepted in tuple(self._server.calls.items()):
            if accepted in waiting and accepted in self._untaken and accepted.task:
                accepted.task.cancel()
                task.cancel()
        self._untaken = waiting


class _Methods:
    """Finds the handler of a call, as core's binding asks for it."""

    def __init__(
        self,
        handlers: Mapping[str, grpc.RpcMethodHandler],
        on_call: Callable[[Sequence[tuple[str, str | bytes]]], object],
    ) -> None:
        self._handlers = handlers
        self._on_call = on_call

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self._on_call(details.invocation_metadata)
        return self._handlers.get(details.method)


class _Accepted:
    """Finds the handler of one call, and keeps which task runs it."""

    __slots__ = ("_methods", "path", "task")

    def __init__(self, methods: _Methods, path: str) -> None:
        self._methods = methods
        self.path = path
        self.task: asyncio.Task[Any] | None = None

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        self.task = asyncio.current_task()
        return self._methods.resolve_handler(details)


class _Acceptor(cygrpc.AioServer):  # type: ignore[misc] # untyped
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        methods: _Methods,
        options: Sequence[tuple[str, Any]],
    ) -> None:
        super().__init__(loop, None, (), None, tuple(options), None)
        self._methods = methods
        self.calls: dict[asyncio.Task[None], _Accepted] = {}  # a loop holds its tasks weakly

    def _make_request_call_future(self, path: bytes | None) -> asyncio.Task[None]:
        """Accept all calls of a method until the server stops; None is for all other paths.

        The base class asks for a future call, and for another one when that has come. This
        one only fails, as that does when the server stops.
        """
        return asyncio.get_running_loop().create_task(self._accept_all(path))

    async def _accept_all(self, path: bytes | None) -> None:
        accepting = [asyncio.ensure_future(self._accept(path)) for _ in range(CALLS_AHEAD)]
        try:
            await asyncio.gather(*accepting)
        finally:
            for each in accepting:
                each.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)

    async def _accept(self, path: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        methods, calls = self._methods, self.calls
        name = _NO_METHOD if path is None else path.decode()
        while True:
            try:
                if path is None:
                    state = await self._request_call()
                else:
                    state = await self._request_registered_call(path)
            except _RequestCallError:  # the call came to nothing
                if self.is_running():
                    continue
                raise
            accepted = _Accepted(methods, name)
            serving = _handle_rpc(name, accepted, (), state, loop, _NO_LIMIT_REACHED)
            call = loop.create_task(_schedule_rpc_coro(serving, state, loop, name))
            calls[call] = accepted
            call.add_done_callback(calls.pop)
            del accepted, serving, call, state  # else the last call is kept until the next one
