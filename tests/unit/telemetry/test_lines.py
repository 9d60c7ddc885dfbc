from __future__ import annotations

import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from kotaemon_grpc.telemetry.lines import JsonLines, json_line
from kotaemon_grpc.telemetry.logs import configure

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = dt.datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put the root logger back."""
    import logging  # noqa: PLC0415 - only to leave its handlers as they were

    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def line_of(fields: dict[str, Any], now: dt.datetime = NOON) -> dict[str, Any]:
    put: list[bytes] = []
    JsonLines(put.append, "access", "info", now.timestamp).write("info", "call", fields)
    (line,) = put
    return orjson.loads(line)


def test_a_line_that_is_made_later_is_the_same_with_the_time_of_its_event() -> None:
    put: list[Any] = []
    clock = iter([NOON.timestamp()])
    lines = JsonLines(put.append, "access", "info", lambda: next(clock))
    lines.later("debug", "call", dict, {"grpc_code": "OK"})
    lines.later("info", "call", dict, {"grpc_code": "OK"})
    (make,) = put
    assert orjson.loads(make()) == line_of({"grpc_code": "OK"})


def test_a_line_has_what_all_lines_have() -> None:
    assert line_of({"grpc_code": "OK"}) == {
        "grpc_code": "OK",
        "event": "call",
        "logger": "access",
        "level": "info",
        "timestamp": "2026-01-02T12:00:00.123456Z",
    }


def test_the_time_has_microseconds_at_a_whole_second_too() -> None:
    line = line_of({}, NOON.replace(microsecond=0))
    assert line["timestamp"] == "2026-01-02T12:00:00.000001Z"


def test_it_looks_as_the_lines_of_structlog_do() -> None:
    output = io.StringIO()
    logs = configure("info", "json", output)
    fields = {"duration_ms": 0.5, "principal": "Zoë", "count": 3}
    logs("access").info("call", **fields)
    logs.lines("access").write("info", "call", dict(fields))
    first, second = (json.loads(line) for line in output.getvalue().splitlines())
    for line in (first, second):
        assert len(line.pop("timestamp")) == len("2026-01-02T12:00:00.123456Z")
    assert first == second
    assert "Zoë" in output.getvalue()


@pytest.mark.parametrize("format_", ["json", "console"])
def test_what_is_less_important_than_the_level_is_not_written(format_: Any) -> None:
    output = io.StringIO()
    lines = configure("warning", format_, output).lines("access")
    lines.write("info", "no", {})
    assert output.getvalue() == ""
    lines.write("warning", "yes", {})
    assert "yes" in output.getvalue()
    assert [lines.writes(level) for level in ("debug", "info", "warning", "error")] == [
        False,
        False,
        True,
        True,
    ]


def test_people_read_what_structlog_makes_for_them() -> None:
    output = io.StringIO()
    lines = configure("info", "console", output).lines("access")
    lines.write("error", "call", {"grpc_code": "INTERNAL"})
    assert not output.getvalue().startswith("{")
    assert "grpc_code=INTERNAL" in output.getvalue()
    assert "error" in output.getvalue()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a\nb\r\x00\x1b[31m", "a\nb\r\x00\x1b[31m"),
        ("a\x85b\u2028c\u2029d\x9b31m", "a\x85b\u2028c\u2029d\x9b31m"),
        ("caf\udce9", "caf\\udce9"),
        ('"\\\udce9\u2028', '"\\\\udce9\u2028'),
        ("提问 🙂", "提问 🙂"),
    ],
)
def test_whatever_a_field_holds_the_line_is_one_valid_line(text: str, read: str) -> None:
    line = json_line({"principal": text, "list": [text]})
    assert line.decode().splitlines(keepends=True) == [line.decode()]
    assert line.endswith(b"\n")
    # The strictest reader takes it.
    assert orjson.loads(line) == {"principal": read, "list": [read]}
    assert not any(0x7F < ord(c) < 0xA0 or ord(c) < 0x20 for c in line.decode()[:-1])


def test_what_is_of_no_type_of_json_is_told_as_python_does() -> None:
    value = complex(1, 2)
    assert orjson.loads(json_line({"x": value})) == {"x": "(1+2j)"}
    assert json.loads(json_line({"x": value, "n": 2**70})) == {"x": "(1+2j)", "n": 2**70}


def test_the_time_is_the_same_in_a_line_that_takes_the_long_way() -> None:
    line = line_of({"principal": "caf\udce9"})
    assert (line["timestamp"], line["principal"]) == ("2026-01-02T12:00:00.123456Z", "caf\\udce9")
