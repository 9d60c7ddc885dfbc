"""The command line, with an engine that waits until it is let go: waiting_server.py serve …."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from kotaemon_grpc.cli import main, serve
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kotaemon_grpc.core.model import AnswerEvent, Question


class WaitingEngine:
    """A question is a verb and a port: there the engine says that it has begun, and waits.

    After `wait` it stops when it is told to, and after `stay` it does not.
    """

    async def answer(
        self, question: Question, _history: object, _context: object
    ) -> AsyncGenerator[AnswerEvent, None]:
        verb, port = question.text.split()
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
        try:
            yield TextDelta("so ")
            let_go = asyncio.ensure_future(reader.readline())
            while not let_go.done():
                try:
                    await asyncio.wait({let_go})
                except asyncio.CancelledError:
                    if verb == "wait":
                        raise
            yield TextDelta("it is")
            yield AnswerCompleted(Answer("so it is", (), FinishReason.ANSWERED))
        finally:
            writer.close()


if __name__ == "__main__":
    serve.run = partial(serve.run, make_engine=lambda _retriever: WaitingEngine())
    main()
