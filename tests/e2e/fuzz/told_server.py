"""The server, with an engine that does as the question tells it, and stages that fail likewise.

Run as the command line is run. Whatever fails has the words of the caller in its errors.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from kotaemon_grpc.app import backend, seams
from kotaemon_grpc.cli import main
from kotaemon_grpc.core.model import Answer, AnswerCompleted, FinishReason, TextDelta

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

FLOOD = "x" * 100_000


def fail(words: str) -> NoReturn:
    """Raise an exception with a cause, a context and a note that all have the words."""
    error = RuntimeError(f"it failed for {words}", {"words": words})
    error.__context__ = KeyError(words)
    error.add_note(words)
    raise error from ValueError(words)


class ToldEngine:
    """Answers `begin …` with a fault after a first word, `flood` without an end, `hold` never."""

    def __init__(self, *_: object) -> None:
        pass

    async def answer(
        self, question: Any, _history: object, _context: object
    ) -> AsyncGenerator[TextDelta | AnswerCompleted, None]:
        verb, _, words = question.text.partition(" ")
        match verb:
            case "fail":
                fail(words)
            case "begin":
                yield TextDelta("so")
                fail(words)
            case "hold":
                await asyncio.Event().wait()
            case "flood":
                while True:
                    yield TextDelta(FLOOD)
        text = "yes"
        yield TextDelta(text)
        yield AnswerCompleted(Answer(text, (), FinishReason.ANSWERED))


class Failing:
    """A stage and a guard that fail where the metadata says, with the words that it has."""

    def __init__(self) -> None:
        self._told: dict[int, tuple[str, str]] = {}  # a call may forget its metadata

    def observer(self, _method: object) -> Failing:
        return self

    def admission(self, _method: object) -> Callable[[Any], None]:
        return self._hook("admission")

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return self._hook(name)

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(call: Any, *_: object) -> None:
            if name == "on_start":
                said = call.metadata
                self._told[id(call)] = (said.get("x-fail-at", ""), said.get("x-words", ""))
            at, words = self._told[id(call)]
            if name == "on_end":
                del self._told[id(call)]
            if at == name:
                fail(words)

        return hook


class FailingSeam(seams.Seam):
    """The seam, with such a stage and such a guard behind its own."""

    def __init__(self, stages: Any, guards: Any) -> None:
        failing = Failing()
        super().__init__([*stages, failing], [*guards, failing])


if __name__ == "__main__":
    backend.LocalEngine = ToldEngine
    seams.Seam = FailingSeam
    main()
