"""The server's whole pipeline around an engine that can do only so much at once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kotaemon_grpc.api.v2.agent import AgentService
from kotaemon_grpc.config.limits import Limits
from kotaemon_grpc.core.leaving import Leaving
from kotaemon_grpc.engines.admission import Admission
from kotaemon_grpc.engines.bounded import BoundedEngine
from peers import front, hardened, host

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.app.backend import Service
    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent, Question
    from kotaemon_grpc.telemetry.metrics import Metrics
    from peers.host import Setting

PLACES = 8
SERVICE_S = 0.02
CAPACITY_PER_S = PLACES / SERVICE_S


class SlowEngine(hardened.ConstantEngine):
    """Takes its time."""

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer."""
        await asyncio.sleep(SERVICE_S)
        async for event in super().answer(question, history, context):
            yield event


def _services(metrics: Metrics) -> list[Service]:
    limits = Limits()
    admission = Admission(
        PLACES,
        max_waiting=limits.max_waiting,
        max_wait_s=limits.max_wait_s,
        clock=time.monotonic,
        on_shed=metrics.count_shed,
    )
    engine = BoundedEngine(SlowEngine(), admission)
    return [hardened.service(AgentService(hardened.asking(engine, metrics), Leaving()))]


async def serve(setting: Setting) -> None:
    """Serve."""
    await front.serve(setting, _services)


if __name__ == "__main__":
    host.run(serve)
