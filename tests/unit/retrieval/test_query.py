from __future__ import annotations

from kotaemon_grpc.core.model import Query
from kotaemon_grpc.retrieval.function_words import content_terms
from kotaemon_grpc.retrieval.query import topic_terms, weighted_terms


def test_function_words_weigh_less_and_are_not_dropped() -> None:
    weights = weighted_terms(Query("When was the tower built?"))
    assert weights["tower"] == weights["built"] == 1.0
    assert 0 < weights["when"] < 1
    assert 0 < weights["the"] < 1


def test_chinese_question_words_weigh_less_with_what_reaches_into_them() -> None:
    weights = weighted_terms(Query("渡轮是什么颜色"))
    assert weights["渡轮"] == weights["颜色"] == 1.0
    assert weights["什么"] == weights["么颜"] < 1


def test_earlier_questions_weigh_less_the_older_they_are() -> None:
    weights = weighted_terms(
        Query("Is it red?", ("Where is the harbour?", "Who owns the pelican?"))
    )
    assert 1 == weights["red"] > weights["harbour"] > weights["pelican"] > 0


def test_a_term_of_the_text_keeps_its_weight() -> None:
    assert weighted_terms(Query("red harbour", ("harbour",)))["harbour"] == 1


def test_history_supports_more_what_refers_back_than_what_stands_alone() -> None:
    history = ("Where is the harbour?",)
    back = weighted_terms(Query("When was it painted?", history))
    alone = weighted_terms(Query("When was Paris painted?", history))
    assert back["harbour"] > alone["harbour"]


def test_a_new_topic_is_judged_without_history() -> None:
    assert "tower" not in topic_terms(Query("What about photosynthesis?", ("Where is the tower?",)))


def test_what_refers_back_is_judged_with_history() -> None:
    assert "tower" in topic_terms(Query("And when was it built?", ("Where is the tower?",)))
    assert "茶叶" in topic_terms(Query("它多少钱？", ("茶叶在哪里？",)))  # noqa: RUF001 - Chinese


def test_a_question_of_function_words_alone_has_no_topic() -> None:
    assert topic_terms(Query("Why is it?")) == {}
    assert "tower" in topic_terms(Query("Why?", ("Where is the tower?",)))
    assert content_terms("") == []
