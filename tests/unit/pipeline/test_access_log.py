from __future__ import annotations

import io
import json
import logging
import math
from typing import Any, Protocol

import grpc
import pytest

from kotaemon_grpc.auth.identity import Identity
from kotaemon_grpc.core.errors import StorageFull, StorageUnavailable
from kotaemon_grpc.pipeline.access_log import AccessLog
from kotaemon_grpc.pipeline.call import Call, Method
from kotaemon_grpc.telemetry.logs import configure

METHOD = Method(
    "kotaemon.v2.AgentService",
    "AskQuestion",
    client_streaming=False,
    server_streaming=False,
    request="kotaemon.v2.AskQuestionRequest",
    read=bytes,
    write=bytes,
)
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PLANTED = "secret-123"


class Logged(Protocol):
    """Logs the end of calls and reads the lines."""

    def __call__(
        self,
        call: Call,
        code: grpc.StatusCode,
        *,
        level: str = "info",
        format_: str = "json",
        **options: Any,
    ) -> str: ...


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)

    def run(
        call: Call,
        code: grpc.StatusCode,
        *,
        level: Any = "info",
        format_: Any = "json",
        **options: Any,
    ) -> str:
        output = io.StringIO()
        lines = configure(level, format_, output).lines("access")
        AccessLog(lines, **options).observer(METHOD).on_end(call, code)
        return output.getvalue()

    return run


class ServicerContext:
    """As much of a call's context as is asked at its start."""

    def invocation_metadata(self) -> None:
        return None


def call_that_raised(error: BaseException | None, reason: str = "") -> Call:
    call = Call(METHOD, ServicerContext())
    call.identity = Identity(
        "spiffe://x/y", "acme", frozenset(), "certificate+jwt", expires_at=math.inf
    )
    call.trace_id = TRACE_ID
    vars(call)["_request_id"] = "r-1"
    call.received, call.sent, call.received_bytes, call.sent_bytes = 3, 4, 50, 60
    call.error, call.reason = error, reason
    return call


def look_up() -> None:
    raise KeyError(PLANTED)


def fail() -> None:
    try:
        look_up()
    except KeyError as error:
        raise ValueError(PLANTED) from error


async def test_a_call_is_one_line(logged: Logged) -> None:
    call = call_that_raised(None)
    call.elapsed_s = 1.0004567
    line = json.loads(logged(call, grpc.StatusCode.OK))
    duration_ms = line.pop("duration_ms")
    assert duration_ms == 1000.456
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "call",
        "level": "info",
        "logger": "access",
        "grpc_service": "kotaemon.v2.AgentService",
        "grpc_method": "AskQuestion",
        "grpc_code": "OK",
        "messages_received": 3,
        "messages_sent": 4,
        "bytes_received": 50,
        "bytes_sent": 60,
        "principal": "spiffe://x/y",
        "tenant": "acme",
        "credential": "certificate+jwt",
        "trace_id": TRACE_ID,
        "request_id": "r-1",
    }


async def test_a_caller_that_is_not_known_has_no_name(logged: Logged) -> None:
    call = call_that_raised(ValueError(), "CREDENTIALS_MISSING")
    call.identity = None
    line = json.loads(logged(call, grpc.StatusCode.UNAUTHENTICATED))
    assert (line["principal"], line["tenant"], line["credential"]) == ("", "", "")
    assert line["reason"] == "CREDENTIALS_MISSING"


@pytest.mark.parametrize("format_", ["json", "console"])
async def test_a_fault_is_an_error_with_its_place_and_without_its_words(
    logged: Logged, format_: str
) -> None:
    with pytest.raises(ValueError, match=PLANTED) as raised:
        fail()
    call = call_that_raised(raised.value, "INTERNAL")
    text = logged(call, grpc.StatusCode.INTERNAL, format_=format_)
    assert PLANTED not in text
    for told in ("error", "INTERNAL", "builtins.ValueError", "builtins.KeyError", __file__):
        assert told in text
    if format_ == "json":
        line = json.loads(text)
        assert (line["level"], line["reason"]) == ("error", "INTERNAL")
        assert line["exception"][0]["frames"][-1].endswith(" fail")


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StorageFull(), grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
        (StorageUnavailable(), grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
    ],
)
async def test_what_the_operator_must_mend_is_a_warning(
    logged: Logged, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    line = json.loads(logged(call_that_raised(error, reason), code))
    assert (line["level"], line["reason"]) == ("warning", reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "DOCUMENT_TOO_LARGE"),
        (grpc.StatusCode.CANCELLED, ""),
    ],
)
async def test_what_is_the_callers_doing_is_no_error(
    logged: Logged, code: grpc.StatusCode, reason: str
) -> None:
    line = json.loads(logged(call_that_raised(ValueError("x"), reason), code))
    assert (line["level"], line["grpc_code"]) == ("info", code.name)
    assert line.get("reason", "") == reason
    assert "exception" not in line


@pytest.mark.parametrize(
    ("drawn", "took_s", "code", "is_written"),
    [
        (0.09, 0.0, grpc.StatusCode.OK, True),
        (0.1, 0.0, grpc.StatusCode.OK, False),
        (0.99, 0.0, grpc.StatusCode.OK, False),
        (0.99, 6.0, grpc.StatusCode.OK, True),
        (0.99, 0.0, grpc.StatusCode.NOT_FOUND, True),
        (0.99, 0.0, grpc.StatusCode.CANCELLED, True),
    ],
)
async def test_of_calls_that_are_fast_and_ok_some_are_written_and_of_others_all(
    logged: Logged, drawn: float, took_s: float, code: grpc.StatusCode, *, is_written: bool
) -> None:
    call = call_that_raised(None)
    call.elapsed_s = took_s
    text = logged(call, code, sample_ok=0.1, slow_s=5.0, draw=lambda: drawn)
    assert bool(text) == is_written


async def test_nothing_is_sampled_unless_asked_for(logged: Logged) -> None:
    assert logged(call_that_raised(None), grpc.StatusCode.OK, draw=lambda: 1.0)


async def test_none_of_the_calls_that_are_fast_and_ok_may_be_wanted(logged: Logged) -> None:
    call = call_that_raised(None)
    assert not logged(call, grpc.StatusCode.OK, sample_ok=0.0, draw=lambda: 0.0)


@pytest.mark.parametrize(
    ("code", "reason", "is_written"),
    [
        (grpc.StatusCode.OK, "", False),
        (grpc.StatusCode.NOT_FOUND, "DOCUMENT_NOT_FOUND", False),
        (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", True),
        (grpc.StatusCode.INTERNAL, "INTERNAL", True),
    ],
)
async def test_what_is_less_important_than_the_level_is_not_written(
    logged: Logged, code: grpc.StatusCode, reason: str, *, is_written: bool
) -> None:
    text = logged(call_that_raised(None, reason), code, level="warning")
    assert bool(text) == is_written


async def test_no_name_breaks_the_line(logged: Logged) -> None:
    call = call_that_raised(None)
    vars(call)["_request_id"] = 'a\n{"event": "forged"}\x85\u2028\udce9'
    text = logged(call, grpc.StatusCode.OK)
    assert len(text.splitlines()) == 1
    assert json.loads(text)["request_id"] == 'a\n{"event": "forged"}\x85\u2028\\udce9'


async def test_other_calls_may_be_chosen_while_methods_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    stream = io.StringIO()
    log = AccessLog(configure("info", "json", stream).lines("server"), draw=lambda: 0.5)
    call = call_that_raised(None)
    observer = log.observer(call.method)
    written = []
    for sample_ok, slow_s in ((1.0, 9.0), (0.1, 9.0), (0.1, 0.5), (0.6, 9.0)):
        log.choose(sample_ok=sample_ok, slow_s=slow_s)
        call.elapsed_s = 0.7
        observer.on_end(call, grpc.StatusCode.OK)
        written.append(len(stream.getvalue().splitlines()))
    assert written == [1, 1, 2, 3]
