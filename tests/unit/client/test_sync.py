"""The client for threads."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import (
    Answer,
    ClientError,
    ConfigurationError,
    NotFoundError,
    SyncAgentClient,
    TextDelta,
)
from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A dialogue that ends while its next question is still waited for, as by `input()`.
WAITING = """
import asyncio, threading
from kotaemon_grpc.client import SyncAgentClient
from kotaemon_grpc.client.testing import FakeTransport
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

waits = threading.Event()

def questions():
    yield "why?"
    waits.set()
    threading.Event().wait()

async def answer(requests):
    while not (await anext(requests)).HasField("message"):
        pass
    reading = asyncio.ensure_future(anext(requests))
    await asyncio.to_thread(waits.wait)
    reading.cancel()
    await asyncio.wait([reading])
    yield pb.ChatStreamResponse(sequence_number=1, completed=pb.ChatCompleted())

with SyncAgentClient(tls=None, transport=FakeTransport({"ChatStream": answer})) as client:
    print(list(client.chat(questions())))
"""
COMPLETED = pb.AnswerCompleted(answer=pb.Answer(text="so"))


def client_of(**handlers: Any) -> SyncAgentClient:
    return SyncAgentClient(tls=None, transport=FakeTransport(handlers))


def test_calls_wait_for_their_values() -> None:
    asked = []

    def answer(request: Any) -> pb.AskQuestionResponse:
        asked.append((request.question, request.collection))
        return pb.AskQuestionResponse(answer=pb.Answer(text="so"))

    with client_of(AskQuestion=answer) as client:
        assert client.ask("why?", collection="collections/c").text == "so"
    assert asked == [("why?", "collections/c")]


def test_calls_raise_what_the_asynchronous_client_raises() -> None:
    def gone(_: object) -> None:
        raise failure(grpc.StatusCode.NOT_FOUND)

    with client_of(GetDocument=gone) as client, pytest.raises(NotFoundError):
        client.get_document("x")


def test_streams_are_iterators() -> None:
    async def answer(_: object) -> AsyncIterator[Any]:
        yield pb.StreamAnswerResponse(sequence_number=1, text_delta=pb.TextDelta(text="so"))
        yield pb.StreamAnswerResponse(sequence_number=2, completed=COMPLETED)

    with client_of(StreamAnswer=answer) as client:
        assert list(client.stream("why?")) == [TextDelta("so"), Answer("so", (), "unspecified")]


def test_a_stream_that_is_left_is_given_up() -> None:
    is_closed = threading.Event()

    async def answer(_: object) -> AsyncIterator[Any]:
        try:
            while True:
                yield pb.StreamAnswerResponse(sequence_number=1, text_delta={"text": "so"})
        finally:
            is_closed.set()

    with client_of(StreamAnswer=answer) as client:
        for _ in client.stream("why?"):
            break
        gc.collect()
        assert is_closed.wait(60)


def test_a_question_of_a_dialogue_may_depend_on_the_answers_before() -> None:
    async def answer(requests: AsyncIterator[pb.ChatStreamRequest]) -> AsyncIterator[Any]:
        async for request in requests:
            if request.HasField("message"):
                text = request.message.question.upper()
                completed = pb.AnswerCompleted(answer=pb.Answer(text=text))
                yield pb.ChatStreamResponse(sequence_number=1, turn_completed=completed)
        yield pb.ChatStreamResponse(sequence_number=2, completed=pb.ChatCompleted())

    answers: list[str] = []
    is_answered = threading.Event()

    def questions() -> Iterator[str]:
        yield "one"
        is_answered.wait()
        yield f"after {answers[0]}"

    with client_of(ChatStream=answer) as client:
        for event in client.chat(questions(), collection="collections/c"):
            assert isinstance(event, Answer)
            answers.append(event.text)
            is_answered.set()
    assert answers == ["ONE", "AFTER ONE"]


def test_a_question_that_never_comes_does_not_keep_the_program_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_what_the_questions_raise_is_raised_by_the_dialogue() -> None:
    async def answer(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for _ in requests:
            yield pb.ChatStreamResponse(sequence_number=1, turn_completed=COMPLETED)

    def questions() -> Iterator[str]:
        yield "why?"
        raise EOFError("no more input")

    with client_of(ChatStream=answer) as client, pytest.raises(EOFError, match="no more input"):
        list(client.chat(questions()))


def test_many_threads_may_call_at_once() -> None:
    together = threading.Barrier(8)

    def answer(request: Any) -> pb.AskQuestionResponse:
        return pb.AskQuestionResponse(answer=pb.Answer(text=request.question))

    with client_of(AskQuestion=answer) as client, ThreadPoolExecutor(8) as pool:

        def ask(question: str) -> str:
            together.wait()
            return client.ask(question).text

        questions = [str(number) for number in range(8)]
        assert list(pool.map(ask, questions)) == questions


def test_a_closed_client_refuses_calls_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    client = client_of()
    client.close()
    client.close()
    assert set(threading.enumerate()) <= before  # others' may have ended meanwhile
    with pytest.raises(ClientError, match="closed"):
        client.ask("why?")
    with pytest.raises(ClientError, match="closed"):
        next(client.stream("why?"))


def test_closing_ends_the_calls_in_flight() -> None:
    begun = threading.Event()
    is_cancelled = threading.Event()

    class Held(FakeTransport):
        """Gives calls up when it is closed, as the real one does."""

        async def unary(self, call: Any, request: Any) -> Any:  # noqa: ARG002 - the protocol's
            self.done = asyncio.Event()
            begun.set()
            await self.done.wait()
            is_cancelled.set()
            raise failure(grpc.StatusCode.CANCELLED)

        async def close(self) -> None:
            self.done.set()

    client = SyncAgentClient(tls=None, transport=Held({}))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.ask, "why?")
        assert begun.wait(60)
        client.close()
        assert isinstance(asked.exception(60), ClientError)
    assert is_cancelled.is_set()


def test_what_cannot_work_is_refused_at_once_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError):
        SyncAgentClient("", tls=None)
    assert set(threading.enumerate()) <= before  # others' may have ended meanwhile
