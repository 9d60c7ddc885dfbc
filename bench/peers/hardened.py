"""The server's whole pipeline around a handler with a constant answer."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import question
from kotaemon_grpc.api.v2 import agent
from kotaemon_grpc.app.backend import Service
from kotaemon_grpc.core.ask import Asking
from kotaemon_grpc.core.leaving import Leaving
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta
from kotaemon_grpc.core.once import Once
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from peers import front, host

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent, Question, Scope
    from kotaemon_grpc.core.ports import AnswerEngine
    from kotaemon_grpc.telemetry.metrics import Metrics
    from peers.host import Setting

_RESPONSE = pb.AskQuestionResponse(answer=pb.Answer(text=question.ANSWER))


class ConstantEngine:
    """Answers what is always answered."""

    async def answer(
        self,
        question: Question,  # noqa: ARG002 - as the port has it
        history: Sequence[Turn],  # noqa: ARG002 - as the port has it
        context: Context,  # noqa: ARG002 - as the port has it
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer."""
        yield TextDelta(_RESPONSE.answer.text)
        yield AnswerCompleted(Answer(_RESPONSE.answer.text, (), FinishReason.ANSWERED))


class ConstantAgent(agent.AgentService):
    """AskQuestion without an engine, after the checks of its fields; the rest as it is served."""

    async def ask_question(
        self, request: pb.AskQuestionRequest, context: Context
    ) -> pb.AskQuestionResponse:
        """Answer what is always answered."""
        agent.question_from_pb(request, context.caller)
        return _RESPONSE


class _AnyCollection:
    async def collection_exists(self, _scope: Scope) -> bool:
        return True


def asking(engine: AnswerEngine, metrics: Metrics) -> Asking:
    """Make the use case upon an engine, with no store: nothing is kept."""
    return Asking(
        engine=engine,
        documents=_AnyCollection(),  # type: ignore[arg-type] - all that is asked of it here
        conversations=None,  # type: ignore[arg-type] - no call names one
        once=Once(None),  # type: ignore[arg-type] - no call has a request_id
        history_turns=10,
        clock=lambda: datetime.now(UTC),
        new_id=lambda: uuid.uuid4().hex,
        on_answer=lambda answer: metrics.count_answer(answer.finish_reason),
    )


def service(servicer: agent.AgentService) -> Service:
    """Name a servicer."""
    return Service(agent.SERVICE.full_name, agent.SERVICE, servicer, agent.FAILURE_MESSAGES)


async def serve(setting: Setting) -> None:
    """Serve."""
    await front.serve(
        setting,
        lambda metrics: [service(ConstantAgent(asking(ConstantEngine(), metrics), Leaving()))],
    )


if __name__ == "__main__":
    host.run(serve)
