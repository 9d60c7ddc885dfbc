"""What people are told, in the language that they read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kotaemon_grpc.pipeline.accept_language import MAX_HEADER_CHARS, best_language
from kotaemon_grpc.pipeline.localized import LOCALES, SENTENCES, localized_message
from kotaemon_grpc.wire.reasons import Reason

MAX_SENTENCE_BYTES = 128


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_short_sentence_in_every_language(reason: Reason) -> None:
    sentences = SENTENCES[reason]
    assert set(sentences) == set(LOCALES)
    assert all(0 < len(text.encode()) <= MAX_SENTENCE_BYTES for text in sentences.values())
    assert sentences["en"].isascii()
    assert sentences["en"].endswith(".")
    assert not any(letter.isascii() for letter in sentences["zh"])
    assert sentences["zh"].endswith("。")


def test_no_two_reasons_say_the_same() -> None:
    for language in LOCALES:
        assert len({sentences[language] for sentences in SENTENCES.values()}) == len(Reason)


@pytest.mark.parametrize(("languages", "locale"), [("", "en"), ("zh", "zh-CN"), ("fr", "en")])
def test_a_message_names_the_locale_that_it_is_in(languages: str, locale: str) -> None:
    message = localized_message(Reason.OVERLOADED, languages)
    assert message.locale == locale
    assert message.message == SENTENCES[Reason.OVERLOADED][locale[:2]]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("ZH-hans-cn", "zh"),
        ("zh-Hant", "zh"),
        ("zh-TW", "zh"),
        ("en-GB", "en"),
        ("fr", "en"),
        ("zhx", "en"),
        # What browsers send.
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh-CN;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.3", "zh"),
        # Weights, whatever the order; among equal ones the order.
        ("en;q=0.3, zh;q=0.5", "zh"),
        ("en;q=0.3, zh-TW;q=0.2, zh-CN;q=0.4", "zh"),
        ("zh, en", "zh"),
        ("en, zh", "en"),
        ("zh;q=1.000\t; q=1, en", "en"),  # malformed: two weights
        ("en ; Q=0.5 ,\tzh;q=1.000", "zh"),
        # All others.
        ("*", "en"),
        ("*, zh", "zh"),
        ("*;q=0.5, zh;q=0.4", "en"),
        ("en;q=0.4, *;q=0.5", "zh"),
        # What is not wanted.
        ("zh;q=0", "en"),
        ("zh;q=0, *", "en"),
        ("en;q=0, *", "zh"),
        ("en;q=0, zh;q=0.001", "zh"),
        ("en;q=0, zh;q=0.000", "en"),
        ("*;q=0", "en"),
        # Lists may have empty elements.
        (", ,zh,,", "zh"),
    ],
)
def test_the_language_that_the_caller_reads_best_is_chosen(header: str, language: str) -> None:
    assert best_language(header, ("en", "zh")) == language


@pytest.mark.parametrize(
    "malformed",
    [
        "zh_CN",
        "zh;q=2",
        "zh;q=1.5",
        "zh;q=0.1234",
        "zh;q=-1",
        "zh;q=nan",
        "zh;q=",
        "zh;level=1",
        "zh-",
        "-zh",
        "*-zh",
        "zh fr",
        "z\u0131",
        "\u0661",
        "zh\n",
        "abcdefghi",
        "zh, ;q=1",
        "zh, fr;q=x",
    ],
)
def test_a_malformed_header_gets_english(malformed: str) -> None:
    assert best_language(malformed, ("en", "zh")) == "en"


def test_a_header_is_read_up_to_its_limit() -> None:
    longest = "zh".ljust(MAX_HEADER_CHARS, ",")
    assert best_language(longest, ("en", "zh")) == "zh"
    assert best_language(longest + ",", ("en", "zh")) == "en"


@settings(deadline=None)
@given(st.text() | st.text("zhen-;q=01.*, \t"))
def test_whatever_the_header_is_the_language_is_one_that_there_is(header: str) -> None:
    assert best_language(header, ("en", "zh")) in {"en", "zh"}
