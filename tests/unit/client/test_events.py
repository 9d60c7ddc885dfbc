"""Streams: what is begun anew, and what a broken one says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from kotaemon_grpc.client import (
    Answer,
    CallError,
    GoingAway,
    Question,
    TextDelta,
    UnavailableError,
)
from kotaemon_grpc.client.testing import FakeTransport, failure
from kotaemon_grpc.pb.v2 import agent_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Code = grpc.StatusCode
DOWN = failure(Code.UNAVAILABLE)
COMPLETED = pb.AnswerCompleted(answer=pb.Answer(text="so"), conversation="conversations/c")


def delta(number: int) -> pb.StreamAnswerResponse:
    return pb.StreamAnswerResponse(sequence_number=number, text_delta=pb.TextDelta(text="so"))


async def events(*given: Any) -> AsyncIterator[Any]:
    """The events of a stream; an error among them ends it."""
    for each in given:
        if isinstance(each, BaseException):
            raise each
        yield each


async def each(*questions: Any) -> AsyncIterator[Any]:
    for question in questions:
        yield question


END = pb.StreamAnswerResponse(sequence_number=9, completed=COMPLETED)


@pytest.mark.parametrize(
    "beginning",
    [
        [DOWN],
        [pb.StreamAnswerResponse(sequence_number=1, failed={"code": Code.UNAVAILABLE.value[0]})],
        [],
    ],
    ids=["broken", "refused", "empty"],
)
async def test_a_stream_without_an_event_is_begun_anew(
    client_of: Any, script: Any, beginning: list[Any]
) -> None:
    asked = script(lambda _: events(*beginning), lambda _: events(delta(1), END))
    client = client_of(FakeTransport({"StreamAnswer": asked}))
    assert [event async for event in client.stream("why?")] == [
        TextDelta("so"),
        Answer("so", (), "unspecified", "conversations/c"),
    ]
    first, second = asked.requests
    assert first.request_id == second.request_id != ""


@pytest.mark.parametrize(
    ("end", "code"), [([DOWN], Code.UNAVAILABLE), ([], Code.UNKNOWN)], ids=["broken", "cut short"]
)
async def test_a_stream_that_breaks_says_after_which_event_and_is_not_begun_anew(
    client_of: Any, end: list[Any], code: grpc.StatusCode
) -> None:
    transport = FakeTransport({"StreamAnswer": lambda _: events(delta(1), delta(2), *end)})
    stream = client_of(transport).stream("why?")
    assert [await anext(stream), await anext(stream)] == [TextDelta("so"), TextDelta("so")]
    with pytest.raises(CallError) as raised:
        await anext(stream)
    assert (raised.value.sequence_number, raised.value.code) == (2, code)
    assert len(transport.calls) == 1


async def test_a_stream_that_broke_after_its_terminal_event_is_whole(client_of: Any) -> None:
    transport = FakeTransport({"StreamAnswer": lambda _: events(delta(1), END, DOWN)})
    *_, last = [event async for event in client_of(transport).stream("why?")]
    assert isinstance(last, Answer)


async def test_a_stream_that_nobody_reads_on_is_given_up(client_of: Any) -> None:
    is_closed = False

    async def handle(_: object) -> AsyncIterator[Any]:
        nonlocal is_closed
        try:
            yield delta(1)
            yield delta(2)
        finally:
            is_closed = True

    stream = client_of(FakeTransport({"StreamAnswer": handle})).stream("why?")
    assert await anext(stream) == TextDelta("so")
    await stream.aclose()
    assert is_closed


async def test_a_dialogue_is_never_begun_anew(client_of: Any) -> None:
    transport = FakeTransport({"ChatStream": lambda _: events(DOWN)})
    with pytest.raises(UnavailableError) as raised:
        [event async for event in client_of(transport).chat(each("why?"))]
    assert raised.value.sequence_number == 0
    assert [call.timeout_s for call in transport.calls] == [None]


async def test_each_question_of_a_dialogue_has_an_id(client_of: Any) -> None:
    sent: list[Any] = []

    async def handle(requests: AsyncIterator[pb.ChatStreamRequest]) -> AsyncIterator[Any]:
        sent.extend([request async for request in requests])
        yield pb.ChatStreamResponse(sequence_number=1, turn_completed=COMPLETED)
        yield pb.ChatStreamResponse(sequence_number=2, completed=pb.ChatCompleted())

    client = client_of(FakeTransport({"ChatStream": handle}))
    questions = each("one?", "two?", Question("three?", request_id="mine"))
    answers = [event async for event in client.chat(questions, context={"k": "v"})]
    assert [answer.conversation for answer in answers] == ["conversations/c"]
    assert sent[0].start.context == {"k": "v"}
    one, two, three = (request.message for request in sent[1:])
    assert [one.question, two.question, three.question] == ["one?", "two?", "three?"]
    assert len({one.request_id, two.request_id, three.request_id, ""}) == 4
    assert three.request_id == "mine"


async def test_the_server_can_say_that_it_goes(client_of: Any) -> None:
    going = pb.GoingAway(grace={"seconds": 2, "nanos": 500_000_000})
    transport = FakeTransport(
        {
            "StreamAnswer": lambda _: events(
                pb.StreamAnswerResponse(sequence_number=1, going_away=going), END
            )
        }
    )
    first, _ = [event async for event in client_of(transport).stream("why?")]
    assert first == GoingAway(2.5)
