"""Questions, their answers, and the passages these rest on."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from kotaemon_grpc.client import values
from kotaemon_grpc.client.attempts import Method
from kotaemon_grpc.client.calls import new_request_id
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping

    from kotaemon_grpc.client.calls import Calls

NEW_CONVERSATION = "conversations/-"

_ASK = Method("AgentService/AskQuestion", pb.AskQuestionResponse)
_STREAM = Method("AgentService/StreamAnswer", pb.StreamAnswerResponse)
_CHAT = Method("AgentService/ChatStream", pb.ChatStreamResponse)
_SEARCH = Method("RetrievalService/Search", pb.SearchResponse)


class Questions:
    """The methods of a client that ask and search."""

    _calls: Calls

    async def ask(
        self,
        question: str,
        *,
        collection: str = "",
        conversation: str = "",
        language: str = "",
        context: Mapping[str, str] | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> values.Answer:
        """Ask a question and wait for the whole answer.

        Args:
            question: 1 to 8,192 characters.
            collection: the resource name of what is asked; empty for the default.
            conversation: the resource name of what is continued; `NEW_CONVERSATION` to
                start one; empty for a question that stands alone.
            language: a BCP 47 tag; empty for the language of the question.
            context: at most 32 entries for the engine.
            request_id: names the request, so that asking again does nothing twice; at
                most 128 visible ASCII characters. Empty: a new one is made.
            timeout_s: the deadline of all attempts together, above 0; None for that of
                the client.

        Raises:
            CallError: it failed.
        """
        request = pb.AskQuestionRequest(
            question=question,
            collection=collection,
            conversation=conversation,
            language_code=language,
            context=context,
            request_id=request_id,
        )
        response = await self._calls.unary(_ASK, request, timeout_s)
        return values.answer_from_pb(response.answer, response.conversation)

    async def stream(
        self,
        question: str,
        *,
        collection: str = "",
        conversation: str = "",
        language: str = "",
        context: Mapping[str, str] | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> AsyncGenerator[values.AnswerEvent, None]:
        """Ask a question and get the answer as it is written; the arguments are those of `ask`.

        A stream that breaks is not begun anew once an event has come.

        Raises:
            CallError: it failed; `sequence_number` is that of the last event.
        """
        request = pb.StreamAnswerRequest(
            question=question,
            collection=collection,
            conversation=conversation,
            language_code=language,
            context=context,
            request_id=request_id,
        )
        async with aclosing(self._calls.server_stream(_STREAM, request, timeout_s)) as responses:
            async for response in responses:
                if event := values.event_from_pb(response):
                    yield event

    async def chat(
        self,
        questions: AsyncIterable[str | values.Question],
        *,
        collection: str = "",
        conversation: str = "",
        language: str = "",
        context: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[values.AnswerEvent, None]:
        """Hold a dialogue: each question is answered with the earlier ones as its history.

        Each turn's events end in its whole `Answer`. A dialogue has no deadline, and is
        never begun anew. The other arguments are those of `ask`.

        Raises:
            CallError: it failed; `sequence_number` is that of the last event.
        """
        start = pb.ChatStart(
            collection=collection,
            conversation=conversation,
            language_code=language,
            context=context,
        )
        async with aclosing(self._calls.bidi(_CHAT, _turns(start, questions))) as responses:
            async for response in responses:
                if event := values.event_from_pb(response):
                    yield event

    async def search(
        self,
        query: str,
        *,
        collection: str = "",
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> tuple[values.SearchResult, ...]:
        """Find passages, best first: the first page, of at most `page_size`.

        Args:
            query: 1 to 8,192 characters.
            collection: the resource name of what is searched; empty for the default.
            page_size: 1 to 100; more means 100, and 0 means 10.
            timeout_s: as of `ask`.

        Raises:
            CallError: it failed.
        """
        request = pb.SearchRequest(query=query, collection=collection, page_size=page_size)
        response = await self._calls.unary(_SEARCH, request, timeout_s)
        return tuple(values.result_from_pb(result) for result in response.results)

    async def search_all(
        self, query: str, *, collection: str = "", timeout_s: float | None = None
    ) -> AsyncGenerator[values.SearchResult, None]:
        """Find passages, best first, page after page: at most 1,000.

        The arguments are those of `search`; each page has a deadline of its own.

        Raises:
            CallError: it failed.
        """
        request = pb.SearchRequest(query=query, collection=collection, page_size=100)
        async with aclosing(self._calls.pages(_SEARCH, request, timeout_s)) as pages:
            async for page in pages:
                for result in page.results:
                    yield values.result_from_pb(result)


async def _turns(
    start: pb.ChatStart, questions: AsyncIterable[str | values.Question]
) -> AsyncIterator[pb.ChatStreamRequest]:
    yield pb.ChatStreamRequest(start=start)
    async for question in questions:
        turn = values.Question(question) if isinstance(question, str) else question
        message = pb.ChatMessage(question=turn.text, request_id=turn.request_id or new_request_id())
        yield pb.ChatStreamRequest(message=message)
