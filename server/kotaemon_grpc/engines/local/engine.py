"""Answers made of the documents' own sentences: the adapter of `core.ports.AnswerEngine`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    Citation,
    CitationAdded,
    FinishReason,
    Query,
    Span,
    TextDelta,
    Usage,
)
from kotaemon_grpc.engines.local.phrases import nothing_found
from kotaemon_grpc.retrieval.coverage import LOOKED_AT
from kotaemon_grpc.retrieval.extract import extracts
from kotaemon_grpc.retrieval.folding import separator
from kotaemon_grpc.retrieval.query import MAX_HISTORY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from concurrent.futures import Executor

    from kotaemon_grpc.core.context import Context
    from kotaemon_grpc.core.conversation import Turn
    from kotaemon_grpc.core.model import AnswerEvent, Question
    from kotaemon_grpc.core.ports import Retriever


class LocalEngine:
    """Answers with up to three sentences of the documents, each of them cited.

    Safe to use for any number of questions at once.
    """

    def __init__(self, retriever: Retriever, executor: Executor | None = None) -> None:
        """Take what finds passages.

        Args:
            retriever: finds them.
            executor: the threads to choose sentences on; without any, the
                loop's own are used.
        """
        self._retriever = retriever
        self._executor = executor

    async def answer(
        self, question: Question, history: Sequence[Turn], context: Context
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Answer a question; `history` has the earlier turns, oldest first.

        Yields each sentence and then its citation. When the documents do not
        answer the question, a sentence says so in the question's language.
        """
        # A question that found nothing is no topic to come back to.
        earlier = [
            turn.question
            for turn in reversed(history)
            if turn.answer.finish_reason is FinishReason.ANSWERED
        ][:MAX_HISTORY]
        query = Query(text=question.text, history=tuple(earlier), limit=LOOKED_AT)
        retrieval = await self._retriever.retrieve(question.scope, query, context)
        # Takes some milliseconds: too long for the loop.
        loop = asyncio.get_running_loop()
        chosen = await loop.run_in_executor(self._executor, extracts, query, retrieval)
        usage = Usage(passages=len(retrieval.hits[:LOOKED_AT]))
        if not chosen:
            text = nothing_found(question.language, question.text)
            yield TextDelta(text)
            yield AnswerCompleted(Answer(text, (), FinishReason.NOTHING_FOUND, usage))
            return
        text = ""
        citations: list[Citation] = []
        for extract in chosen:
            piece = separator(text, extract.text) + extract.text
            text += piece
            citation = Citation(
                document=extract.hit.document,
                location=extract.location,
                snippet=extract.text,
                score=extract.hit.score,
                spans=(Span(len(text) - len(extract.text), len(text)),),
            )
            citations.append(citation)
            yield TextDelta(piece)
            yield CitationAdded(citation)
        yield AnswerCompleted(Answer(text, tuple(citations), FinishReason.ANSWERED, usage))
