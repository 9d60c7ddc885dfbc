from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from kotaemon_grpc.core.model import Location, Passage
from kotaemon_grpc.retrieval.analysis import MAX_TERM_CHARS, passage_terms, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \r\n\t", []),
        ("🎉🚢", []),
        ("Running ferries", ["run", "ferri"]),
        ("snake_case", ["snake", "case"]),
        ("春天来了", ["春天", "天来", "来了"]),
        ("在", ["在"]),
        ("春\r\n  天", ["春天"]),
        ("春\n\n天", ["春", "天"]),
        ("2008年", ["2008", "年"]),
        ("用gRPC调用ferries吧", ["用", "grpc", "调用", "ferri", "吧"]),
        ("ＡＢＣ１２", ["abc12"]),  # noqa: RUF001 - full-width letters are the point
        ("Café", ["cafe"]),
        ("カﾞ", ["ガ"]),
    ],
)
def test_text_becomes_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_a_word_without_end_is_cut() -> None:
    assert {len(t) for t in terms("x" * (3 * MAX_TERM_CHARS))} == {MAX_TERM_CHARS}


def test_threads_get_the_same_terms() -> None:
    texts = [f"running {n} ferries nationally 春天来了" for n in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(terms, texts)) == [terms(t) for t in texts]


def test_a_passage_is_found_by_its_headings_and_title() -> None:
    passage = Passage("Go.", Location(("Guide", "Start"), 0, 3))
    assert passage_terms("Handbook", passage) == ["handbook", "guid", "start", "go"]


def test_a_title_that_is_a_heading_counts_once() -> None:
    passage = Passage("Go.", Location(("Guide",), 0, 3))
    assert passage_terms("Guide", passage) == ["guid", "go"]
