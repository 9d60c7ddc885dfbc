"""Stored answers, and those that older servers stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kotaemon_grpc.core.model import Answer, FinishReason, Usage
from kotaemon_grpc.stores.sqlite.answers import answer_from_json, answer_to_json


def first_form(**usage: int) -> str:
    """Write an answer as the first servers did."""
    plain: dict[str, Any] = {
        "version": 1,
        "text": "so",
        "finish_reason": "answered",
        "usage": usage,
        "citations": [],
    }
    return json.dumps(plain)


@pytest.mark.parametrize("usage", [Usage(), Usage(0, 0, 3), Usage(1, 2, 3), Usage(None, 2, 3)])
def test_an_answer_is_read_as_it_was_written(usage: Usage) -> None:
    answer = Answer("so", (), FinishReason.ANSWERED, usage)
    assert answer_from_json(answer_to_json(answer)) == answer


def test_no_tokens_in_the_first_form_mean_that_no_model_was_used() -> None:
    old = answer_from_json(first_form(input_tokens=0, output_tokens=0, passages=5))
    assert old == Answer("so", (), FinishReason.ANSWERED, Usage(None, None, 5))
    counted = answer_from_json(first_form(input_tokens=7, output_tokens=8, passages=5))
    assert counted.usage == Usage(7, 8, 5)


def test_a_form_that_is_not_known_is_refused() -> None:
    newer = first_form(passages=1).replace('"version": 1', '"version": 3')
    with pytest.raises(ValueError, match="unknown version"):
        answer_from_json(newer)
