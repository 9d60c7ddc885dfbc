# ruff: noqa: RUF001 - Chinese punctuation is what this is about
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from kotaemon_grpc.core.caller import Caller
from kotaemon_grpc.core.context import Context
from kotaemon_grpc.core.conversation import Turn
from kotaemon_grpc.core.model import (
    Answer,
    AnswerCompleted,
    CitationAdded,
    FinishReason,
    Question,
    Scope,
    TextDelta,
)
from kotaemon_grpc.engines.local.engine import LocalEngine
from kotaemon_grpc.engines.local.phrases import NOTHING_FOUND

if TYPE_CHECKING:
    from collections.abc import Callable

    from kotaemon_grpc.core.model import AnswerEvent

SCOPE = Scope("default")
CONTEXT = Context(Caller("someone"))
LIGHTHOUSE = """# Lighthouse

The lighthouse stands on Gull Rock. Its lamp was
lit for the first time in 1871 by Mary Hale.

## Repairs

Where do the painters live? Painters renew the red stripes of the lighthouse every six years.

```sh
paint --stripes red --lighthouse
```
"""
TEA = "# 茶园\n\n茶园在青螺山上。茶叶在每年\n四月采摘。工人中午休息。\n"
HARBOUR = "# Harbour\n\nThe harbour was dug by hand. Seals sleep on its northern wall in winter.\n"
DOCUMENTS = {"light": LIGHTHOUSE, "tea": TEA, "harbour": HARBOUR}


def turn(question: str) -> Turn:
    answer = Answer("…", (), FinishReason.ANSWERED)
    return Turn(1, "default", question, answer, datetime(2026, 1, 1, tzinfo=UTC))


async def ask(
    retriever: Any, text: str, *earlier: str, language: str = ""
) -> tuple[list[AnswerEvent], Answer]:
    question = Question(text, SCOPE, language)
    history = [turn(q) for q in earlier]
    events = [e async for e in LocalEngine(retriever).answer(question, history, CONTEXT)]
    assert isinstance(events[-1], AnswerCompleted)
    assert not any(isinstance(e, AnswerCompleted) for e in events[:-1])
    answer = events[-1].answer
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == answer.text
    assert tuple(e.citation for e in events if isinstance(e, CitationAdded)) == answer.citations
    return events, answer


@pytest.fixture
def retriever(memory_retriever: Callable[[dict[str, str]], Any]) -> Any:
    return memory_retriever(DOCUMENTS)


async def test_an_answer_is_cited_sentence_by_sentence(retriever: Any) -> None:
    events, answer = await ask(retriever, "When was the lamp of the lighthouse lit?")
    assert answer.finish_reason is FinishReason.ANSWERED
    first = answer.citations[0]
    assert first.snippet == "Its lamp was lit for the first time in 1871 by Mary Hale."
    assert first.location.headings == ("Lighthouse",)
    assert LIGHTHOUSE[first.location.start : first.location.end] == (
        "Its lamp was\nlit for the first time in 1871 by Mary Hale."
    )
    assert 2 <= len(answer.citations) <= 3
    for citation in answer.citations:
        (span,) = citation.spans
        assert answer.text[span.start : span.end] == citation.snippet
    assert answer.text == " ".join(c.snippet for c in answer.citations)
    assert [type(e) for e in events[:2]] == [TextDelta, CitationAdded]
    assert answer.usage.passages > 0


async def test_chinese_sentences_are_joined_without_spaces(retriever: Any) -> None:
    _, answer = await ask(retriever, "茶叶什么时候采摘？")
    assert answer.citations[0].snippet == "茶叶在每年四月采摘。"
    assert answer.text == "".join(c.snippet for c in answer.citations)


@pytest.mark.parametrize(
    ("question", "language", "expected"),
    [
        ("What is photosynthesis?", "", "en"),
        ("光合作用如何进行？", "", "zh"),
        ("gRPC的端口是多少？", "", "zh"),
        ("What is photosynthesis?", "zh-Hans-CN", "zh"),
        ("光合作用如何进行？", "en-GB", "en"),
        ("光合作用如何进行？", "fr", "en"),
        ("Why?", "", "en"),
        ("🎉🎉", "", "en"),
        ("...", "ZH", "zh"),
    ],
)
async def test_what_the_documents_do_not_cover_is_not_answered(
    retriever: Any, question: str, language: str, expected: str
) -> None:
    _, answer = await ask(retriever, question, language=language)
    assert answer.text == NOTHING_FOUND[expected]
    assert answer.finish_reason is FinishReason.NOTHING_FOUND
    assert answer.citations == ()


@pytest.mark.parametrize(
    "follow_up", ["And when was it first lit?", "When did they consecrate it?"]
)
async def test_a_follow_up_is_answered_from_what_it_follows(retriever: Any, follow_up: str) -> None:
    first = "Does the lighthouse with the lamp stand on Gull Rock?"
    _, answer = await ask(retriever, follow_up, first)
    assert "1871" in answer.text
    assert answer.citations[0].document.id == "light"


async def test_a_follow_up_on_an_uncovered_topic_is_not_answered(retriever: Any) -> None:
    first = "Where does the lighthouse stand?"
    for follow_up in ("What about photosynthesis?", "那光合作用呢？"):
        _, answer = await ask(retriever, follow_up, first)
        assert answer.finish_reason is FinishReason.NOTHING_FOUND


async def test_a_new_topic_leaves_the_old_one(retriever: Any) -> None:
    _, answer = await ask(retriever, "Where do seals sleep?", "Where does the lighthouse stand?")
    assert answer.citations[0].document.id == "harbour"


async def test_history_goes_to_retrieval_latest_first(retriever: Any) -> None:
    await ask(retriever, "And why?", "one", "two", "three", "four")
    assert retriever.queries[0].history == ("four", "three", "two")


async def test_a_question_that_found_nothing_is_no_topic_to_come_back_to(retriever: Any) -> None:
    unanswered = replace(
        turn("Who is the president?"), answer=Answer("Nothing.", (), FinishReason.NOTHING_FOUND)
    )
    question = Question("And why?", SCOPE)
    history = [turn("one"), unanswered]
    async for _ in LocalEngine(retriever).answer(question, history, CONTEXT):
        pass
    assert retriever.queries[0].history == ("one",)


async def test_passages_are_looked_for_in_the_time_that_the_caller_has(retriever: Any) -> None:
    until = replace(CONTEXT, deadline_s=60.0)
    async for _ in LocalEngine(retriever).answer(Question("why?", SCOPE), (), until):
        pass
    assert retriever.contexts == [until]


async def test_prose_is_preferred_to_headings_code_and_questions(retriever: Any) -> None:
    _, answer = await ask(retriever, "How often do painters renew the lighthouse's red stripes?")
    assert answer.citations[0].snippet.startswith("Painters renew")
    assert "paint --stripes" not in answer.citations[0].snippet


async def test_code_answers_when_there_is_nothing_else(
    memory_retriever: Callable[[dict[str, str]], Any],
) -> None:
    retriever = memory_retriever({"a": "# A\n\n```\nmake turbine\n```\n", "b": "Other words."})
    _, answer = await ask(retriever, "Which turbine?")
    assert answer.citations[0].snippet == "make turbine"


async def test_a_sentence_of_several_documents_is_given_once(
    memory_retriever: Callable[[dict[str, str]], Any],
) -> None:
    copies = {f"copy{n}": "The turbine hums. It is green.\n" for n in range(3)}
    _, answer = await ask(memory_retriever(copies), "Why does the turbine hum?")
    assert answer.text == "The turbine hums. It is green."


async def test_no_documents_means_nothing_found(
    memory_retriever: Callable[[dict[str, str]], Any],
) -> None:
    _, answer = await ask(memory_retriever({}), "Where is the lighthouse?")
    assert answer.finish_reason is FinishReason.NOTHING_FOUND
    assert answer.usage.passages == 0
