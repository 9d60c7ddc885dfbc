from __future__ import annotations

import datetime as dt
import io
import json
import logging
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.telemetry import grpc_core, logs
from kotaemon_grpc.telemetry.log_stream import LogStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """A stream to log to; the root logger is put back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:], level = before
    root.setLevel(level)


def _lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _fail() -> None:
    raise ValueError("the question of a user")


def test_a_line_is_json_with_time_level_logger_and_event(stream: io.StringIO) -> None:
    log = logs.configure("info", "json", stream)("server")
    log.info("server.serving", address="127.0.0.1:1", text="zwei\nZeilen")
    (line,) = _lines(stream)
    timestamp = dt.datetime.fromisoformat(line.pop("timestamp"))
    assert timestamp.utcoffset() == dt.timedelta(0)
    assert line == {
        "level": "info",
        "logger": "server",
        "event": "server.serving",
        "address": "127.0.0.1:1",
        "text": "zwei\nZeilen",
    }


def test_what_is_less_important_than_the_level_is_not_written(stream: io.StringIO) -> None:
    log = logs.configure("warning", "json", stream)("server")
    log.info("no")
    log.warning("yes")
    assert [line["event"] for line in _lines(stream)] == ["yes"]


@pytest.mark.parametrize("kind", ["json", "console"])
def test_the_level_may_be_changed(stream: io.StringIO, kind: logs.Format) -> None:
    factory = logs.configure("info", kind, stream)
    log, lines, library = factory("server"), factory.lines("server"), logging.getLogger("lib")
    audit = factory("audit", audit=True)

    def said() -> list[str]:
        before = len(stream.getvalue())
        log.info("said-log")
        lines.write("info", "said-lines", {})
        library.error("said-library")
        library.warning("said-library-warns")
        audit.info("said-audit")
        return re.findall(r"said-([\w-]+)", stream.getvalue()[before:])

    all_of_them = ["log", "lines", "library", "library-warns", "audit"]
    assert said() == all_of_them
    factory.set_level("error")
    assert said() == ["library", "audit"]
    factory.set_level("debug")
    assert said() == all_of_them


@pytest.mark.parametrize("kind", ["json", "console"])
def test_audit_lines_are_not_displaced_by_others(
    stream: io.StringIO, tmp_path: Path, kind: logs.Format
) -> None:
    assert stream  # it puts back what is configured here
    with (tmp_path / "log").open("wb") as file:
        # The end comes first, so that nothing is written before all is said.
        with LogStream(file.fileno(), max_waiting=10, collecting_s=3600) as queue:
            factory = logs.configure("info", kind, queue)
            log, lines, audit = (
                factory("server"),
                factory.lines("server"),
                factory("audit", audit=True),
            )
            for _ in range(20):
                lines.write("info", "call", {})
                log.info("other")
            audit.warning("audit.denied")
            audit.warning("audit.lost")
        written = (tmp_path / "log").read_text(encoding="utf-8")
    assert len(written.splitlines()) == 10
    assert "audit.denied" in written.splitlines()[-1]
    assert queue.dropped == {"other": 31, "audit": 1}


def test_console_is_for_people(stream: io.StringIO) -> None:
    logs.configure("info", "console", stream)("server").info("server.serving", port=1)
    assert "server.serving" in stream.getvalue()
    assert "port=1" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_libraries_log_into_the_same_json(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("aiohttp.server").warning("slow %s", "peer")
    logging.getLogger("aiohttp.server").info("chatter")
    (line,) = _lines(stream)
    assert line["logger"] == "aiohttp.server"
    assert line["level"] == "warning"
    assert line["event"] == "slow %s"


def test_an_exception_is_told_without_its_own_words(stream: io.StringIO) -> None:
    log = logs.configure("info", "json", stream)("server")
    for report in (log.exception, logging.getLogger("grpc").exception):
        try:
            _fail()
        except ValueError:
            report("call.failed")
    assert "question of a user" not in stream.getvalue()
    for line in _lines(stream):
        (link,) = line["exception"]
        assert link["type"] == "builtins.ValueError"
        assert link["frames"][-1].endswith(" _fail")


def test_people_read_of_an_exception_what_machines_do(stream: io.StringIO) -> None:
    log = logs.configure("info", "console", stream)("server")
    for report in (log.exception, logging.getLogger("grpc").exception):
        try:
            _fail()
        except ValueError:
            report("call.failed")
    assert "question of a user" not in stream.getvalue()
    assert stream.getvalue().count("builtins.ValueError\n") == 2
    assert stream.getvalue().count(" _fail\n") == 2


def test_causes_of_an_exception_are_told(stream: io.StringIO) -> None:
    log = logs.configure("info", "json", stream)("server")
    try:
        try:
            _fail()
        except ValueError as error:
            raise RuntimeError("secret") from error
    except RuntimeError:
        log.exception("call.failed")
    (line,) = _lines(stream)
    types = [link["type"] for link in line["exception"]]
    assert types == ["builtins.RuntimeError", "builtins.ValueError"]


def test_of_a_library_only_the_first_line_is_kept(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    # As asyncio reports an exception that nobody fetched.
    logging.getLogger("asyncio").error("Task exception\nfuture: <Task exception=E('a question')>")
    (line,) = _lines(stream)
    assert line["event"] == "Task exception"


def test_of_what_a_client_sent_nothing_is_kept(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    _decode_as_grpcio_does(b"Bearer secret\xff")
    (line,) = _lines(stream)
    assert (line["event"], line["level"]) == ("Invalid encoding on %s", "warning")
    assert line["exception"][0]["type"] == "builtins.UnicodeDecodeError"
    assert "secret" not in stream.getvalue()


@pytest.mark.parametrize(
    ("template", "arguments", "said"),
    [
        (
            "Aborting method [%s]",
            ("/kotaemon.v2.AgentService/Ask",),
            "/kotaemon.v2.AgentService/Ask",
        ),
        ("%d of %.1f", (3, 4.5), "3 of 4.5"),
        ("%(count)d lines", ({"count": 3},), "3 lines"),
        ("Aborting method [%s]", ("/why is it/so",), "[%s]"),
        ("Aborting method [%s]", ("/a.B/C\nsecret",), "[%s]"),
        ("Aborting method [%s]", (b"/a.B/C",), "[%s]"),
        ("%s by %s", ("secret", "/a.B/C"), "%s by %s"),
        ("100 %", (), "100 %"),
    ],
)
def test_a_library_fills_in_numbers_and_methods_and_nothing_else(
    stream: io.StringIO, template: str, arguments: tuple[object, ...], said: str
) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("grpc").warning(template, *arguments)
    (line,) = _lines(stream)
    assert said in line["event"]
    assert "positional_args" not in line


def test_our_own_words_are_whole(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logging.getLogger("kotaemon_grpc.telemetry.x").warning("%d lost at %s", 3, "collector:4317")
    assert json.loads(stream.getvalue())["event"] == "3 lost at collector:4317"


def test_what_a_client_sent_is_no_error(stream: io.StringIO) -> None:
    logs.configure("error", "json", stream)
    _decode_as_grpcio_does(b"\xff")
    assert stream.getvalue() == ""
    logging.getLogger("grpc._cython.cygrpc").error("a fault of its own")
    assert [line["level"] for line in _lines(stream)] == ["error"]


def test_what_clients_send_is_told_once_a_second_at_most(stream: io.StringIO) -> None:
    now_s = [1000.0]
    logs.configure("info", "json", stream, clock=lambda: now_s[0])
    for _ in range(3):
        _decode_as_grpcio_does(b"\xff")
        logging.getLogger("grpc._cython.cygrpc").error("a fault of its own")
    told = [line["event"] for line in _lines(stream)]
    assert told.count("Invalid encoding on %s") == 1
    assert told.count("a fault of its own") == 3
    for later_s in (0.9, 0.1):
        now_s[0] += later_s
        _decode_as_grpcio_does(b"\xff")
    assert stream.getvalue().count("Invalid encoding on %s") == 2


def _decode_as_grpcio_does(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        logging.getLogger("grpc._cython.cygrpc").exception("Invalid encoding on %s", value)


def test_configuring_again_does_not_double_lines(stream: io.StringIO) -> None:
    logs.configure("info", "json", io.StringIO())
    logs.configure("info", "json", stream)
    logging.getLogger("x").error("once")
    assert len(_lines(stream)) == 1


def test_grpc_core_is_quiet_unless_the_operator_asked_for_more() -> None:
    environ: dict[str, str] = {}
    grpc_core.quiet_grpc_core(environ)
    assert environ == {"GRPC_VERBOSITY": "ERROR"}
    environ = {"GRPC_VERBOSITY": "DEBUG"}
    grpc_core.quiet_grpc_core(environ)
    assert environ == {"GRPC_VERBOSITY": "DEBUG"}


def test_logging_does_not_import_grpc() -> None:
    program = "import sys, kotaemon_grpc.telemetry.logs; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
