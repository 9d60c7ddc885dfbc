"""`kotaemon-grpc chat`."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from kotaemon_grpc.cli.calls import call
from kotaemon_grpc.cli.resources import collection_option, conversation_option
from kotaemon_grpc.cli.settings import client_config, client_options
from kotaemon_grpc.cli.show import printable, sources_to_text
from kotaemon_grpc.client import Answer, GoingAway, Question, TextDelta
from kotaemon_grpc.core.limits import MAX_QUESTION_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kotaemon_grpc.client import AgentClient

_READ_BYTES = 65536


@click.command(short_help="Hold a dialogue, a question a line.")
@collection_option("What is asked.")
@conversation_option
@click.option("--language", default="", metavar="TAG", help='As "en" or "zh". [the question\'s]')
@client_options
def chat(**options: Any) -> int:
    """Hold a dialogue: a question a line, each answered with the earlier ones in mind.

    Ends with the end of the input (Ctrl-D).
    """
    config = client_config(options)
    call(config, lambda client: _talk(client, options))
    return 0


async def _talk(client: AgentClient, options: dict[str, Any]) -> None:
    questions = _Questions(_Lines())
    conversation = ""
    is_going_away = True
    while is_going_away:  # on another server then
        is_going_away = False
        async for event in client.chat(
            questions.unanswered(),
            collection=options["collection"],
            conversation=conversation or options["conversation"],
            language=options["language"],
        ):
            if isinstance(event, TextDelta):
                click.echo(printable(event.text), nl=False)
            elif isinstance(event, GoingAway):
                is_going_away = True
            elif isinstance(event, Answer):
                conversation = event.conversation
                click.echo(f"\n{sources_to_text(event)}\n" if event.citations else "\n")
                questions.answered()
        is_going_away = is_going_away and not questions.is_over
    if conversation and sys.stdin.isatty():
        click.echo(f"go on later with --conversation {conversation}", err=True)


class _Questions:
    """The questions of a dialogue: the next is asked for when the last one is answered."""

    def __init__(self, lines: _Lines) -> None:
        self.is_over = False
        self._lines = lines
        self._asked: Question | None = None
        self._answered = asyncio.Event()

    async def unanswered(self) -> AsyncIterator[Question]:
        while (question := self._asked or await self._next()) is not None:
            self._asked = question
            self._answered.clear()
            yield question
            await self._answered.wait()
        self.is_over = True

    def answered(self) -> None:
        self._asked = None
        self._answered.set()

    async def _next(self) -> Question | None:
        while (line := await self._lines.next()) is not None:
            question = line.strip()
            if len(question) > MAX_QUESTION_CHARS:
                click.echo(f"a question has at most {MAX_QUESTION_CHARS} characters", err=True)
            elif question:
                return Question(question, request_id=str(uuid.uuid4()))
        return None


class _Lines:
    """The lines of the standard input.

    They are read by a daemon thread, past Python's own buffer and its lock: any other
    would keep a process that was interrupted, or whose server has gone, until
    somebody presses Enter.
    """

    def __init__(self) -> None:
        self._waiting = b""
        self._next: asyncio.Future[bytes] | None = None

    async def next(self) -> str | None:
        """Read a line; None at the end of the input. One that nobody waited for is kept."""
        self._next = self._next or self._begin()
        line = await asyncio.shield(self._next)
        self._next = None
        return line.decode(errors="replace") or None

    def _begin(self) -> asyncio.Future[bytes]:
        if sys.stdin.isatty():
            click.echo("> ", nl=False)
        loop = asyncio.get_running_loop()
        line: asyncio.Future[bytes] = loop.create_future()

        def answer(found: bytes) -> None:
            if not line.done():
                line.set_result(found)

        def read() -> None:
            found = self._read()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(answer, found)

        threading.Thread(target=read, daemon=True).start()
        return line

    def _read(self) -> bytes:
        while b"\n" not in self._waiting and (chunk := os.read(sys.stdin.fileno(), _READ_BYTES)):
            self._waiting += chunk
        line, end, self._waiting = self._waiting.partition(b"\n")
        return line + end
