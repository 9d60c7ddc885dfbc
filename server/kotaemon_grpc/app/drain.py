"""The end of a server's life: who asks is told, then no call is taken, then none runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kotaemon_grpc.core.errors import ShuttingDown
from kotaemon_grpc.pipeline.deadline import CLOSING_S
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from kotaemon_grpc.core.leaving import Leaving
    from kotaemon_grpc.pipeline.running import Running
    from kotaemon_grpc.transport.health import HealthReporter
    from kotaemon_grpc.transport.server import Server
    from kotaemon_grpc.transport.shutdown import StopSignals

_LAST_S = 1.0  # for the handlers of calls that core itself has cancelled


class Drain:
    """Ends what serves calls, in an order that loses none that could be kept.

    Args:
        health: what clients and probes ask.
        leaving: tells the handlers of streams.
        running: the calls.
        on_begin: is called when a signal has come.
        log: of the server.
        closing_s: how long a call that was stopped may take to end.
    """

    def __init__(
        self,
        *,
        health: HealthReporter,
        leaving: Leaving,
        running: Running,
        on_begin: Callable[[], None],
        log: FilteringBoundLogger,
        closing_s: float = CLOSING_S,
    ) -> None:
        self.servers: list[Server] = []
        self._health = health
        self._leaving = leaving
        self._running = running
        self._on_begin = on_begin
        self._log = log
        self._closing_s = closing_s

    async def until_known(self, signals: StopSignals, delay_s: float) -> None:
        """Wait for a signal, say that the server does not serve, and yet serve on.

        Args:
            signals: where the signal comes from.
            delay_s: how long it takes until all who choose among servers have heard it.
        """
        signal = await signals.wait_for_stop()
        self._log.info(names.EVENT_DRAINING, **{names.KEY_SIGNAL: signal.name})
        self._on_begin()
        self._health.shut_down()
        if self.servers:
            await asyncio.sleep(delay_s)

    async def end_calls(self, grace_s: float) -> bool:
        """Take no new calls, let those finish that run, and end those that take too long.

        Args:
            grace_s: how long they may take; what was stopped then has `closing_s` to end.

        Returns:
            Whether no handler runs any more. One that does has ignored that it was stopped.
        """
        self._leaving.say(grace_s)
        self._health.end_watches()
        ended = asyncio.ensure_future(self._until_ended(grace_s + self._closing_s))
        await asyncio.wait({ended}, timeout=grace_s)
        if not ended.done():
            self._running.interrupt_all(ShuttingDown())
            await asyncio.wait({ended}, timeout=self._closing_s + _LAST_S)
        if ended.done():
            await ended
            return True
        ended.cancel()
        for call in self._running:
            self._log.error(
                names.EVENT_LEFT_BEHIND,
                **{
                    names.KEY_SERVICE: call.method.service,
                    names.KEY_METHOD: call.method.name,
                    names.KEY_REQUEST_ID: call.request_id,
                },
            )
        return False

    async def _until_ended(self, limit_s: float) -> None:
        """Stop the servers; after the limit core cancels their calls. Then no new ones come."""
        await asyncio.gather(*(server.stop(limit_s) for server in self.servers))
        await self._running.wait_until_none()
