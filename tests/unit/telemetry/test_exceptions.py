from __future__ import annotations

import json

from kotaemon_grpc.telemetry.exceptions import without_words

PLANTED = "s3cret-of-a-user"


class Leaky(Exception):
    """Shows its words wherever it can."""

    def __init__(self) -> None:
        super().__init__(PLANTED)
        self.add_note(PLANTED)
        self.detail = PLANTED

    def __repr__(self) -> str:
        return PLANTED


def read(_question: str) -> None:
    raise Leaky


def caught(kind: str) -> BaseException:
    try:
        try:
            read(PLANTED)
        except Leaky as error:
            if kind == "cause":
                raise KeyError(PLANTED) from error
            raise KeyError(PLANTED)  # noqa: B904 - the context is what is shown
    except KeyError as error:
        return error


def test_types_and_places_are_told_and_no_words() -> None:
    for kind in ("cause", "context"):
        told = without_words(caught(kind))
        assert PLANTED not in json.dumps(told)
        assert [link["type"] for link in told] == ["builtins.KeyError", f"{__name__}.Leaky"]
        (_, inner) = told
        assert [str(frame).rpartition(" ")[2] for frame in inner["frames"]] == ["caught", "read"]
        assert f"{__file__}:" in inner["frames"][-1]


def test_a_circle_of_causes_ends() -> None:
    error, other = ValueError(), KeyError()
    error.__cause__, other.__cause__ = other, error
    assert len(without_words(error)) == 2


def test_nothing_is_told_of_nothing() -> None:
    assert without_words(None) == []
