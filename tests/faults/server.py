"""The server, with an engine that keeps a ledger: python server.py SETTINGS.json LEDGER."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from ledger import Ledger

from kotaemon_grpc.app.serving import serve
from kotaemon_grpc.config import load
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta
from kotaemon_grpc.telemetry.log_stream import LogStream
from kotaemon_grpc.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kotaemon_grpc.core.model import AnswerEvent

WORK_S = 0.005
PIECES = 20
PIECE_S = 0.05
FLOOD = "x" * 10_000
LATE_EVERY = 10  # of so many questions, the answer to one is
LATE_S = 0.3  # after its work was done: who is killed meanwhile has done it, and nobody knows


class LedgerEngine:
    """Does a piece of work for each question, and for a request id once.

    The question is a verb and a number: `ask` answers in one piece after 5 ms,
    `stream` in 20 pieces over a second, and `flood` writes without an end. Some answers
    end well after their work was done: so kills meet work that nobody was told of.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def answer(
        self, question: Any, _history: object, context: Any
    ) -> AsyncGenerator[AnswerEvent, None]:
        verb, number = question.text.split()
        pieces = [f"answer to {question.text}"]
        pause_s = WORK_S
        if verb == "stream":
            pieces = [f"{number}.{piece} " for piece in range(PIECES)]
            pause_s = PIECE_S
        while verb == "flood":
            yield TextDelta(FLOOD)
        known = bool(context.request_id) and self._ledger.has(context.request_id)
        for piece in pieces:
            if not known:
                await asyncio.sleep(pause_s)
            yield TextDelta(piece)
        (self._ledger.again if known else self._ledger.done)(number, context.request_id)
        if not int(number) % LATE_EVERY:
            await asyncio.sleep(LATE_S)
        yield AnswerCompleted(Answer("".join(pieces), (), FinishReason.ANSWERED))


def _end_with_the_runner() -> None:
    """A runner that is killed leaves no server behind: its end of the pipe is closed."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    settings, ledger = sys.argv[1:]
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    flags = json.loads(Path(settings).read_text())
    config = load(file=None, environ={}, flags=flags)
    engine = LedgerEngine(Ledger(Path(ledger)))
    with LogStream(sys.stdout.fileno()) as stream:
        log = configure(config.log.level, config.log.format, stream)
        uvloop.run(
            serve(
                config,
                log,
                dropped_lines=lambda: stream.dropped,
                make_engine=lambda _retriever: engine,
            )
        )


if __name__ == "__main__":
    main()
