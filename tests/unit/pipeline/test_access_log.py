from __future__ import annotations

import io
import json
from typing import Any

import grpc
import pytest

from kotaemon_grpc.core.errors import StorageFull, StorageUnavailable
from kotaemon_grpc.core.model import Caller
from kotaemon_grpc.pb.v2 import agent_pb2 as pb
from kotaemon_grpc.pipeline.access_log import AccessLog
from kotaemon_grpc.pipeline.seam import Call, Method
from kotaemon_grpc.telemetry.logs import configure

METHOD = Method(
    "kotaemon.v2.AgentService",
    "AskQuestion",
    client_streaming=False,
    server_streaming=False,
    request=pb.AskQuestionRequest,
)


@pytest.fixture
def line_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Log the end of a call and read the line."""
    import logging  # noqa: PLC0415 - only to leave its handlers as they were

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)

    def run(call: Call, code: grpc.StatusCode) -> dict[str, Any]:
        output = io.StringIO()
        observer = AccessLog(configure("info", "json", output)("server")).observer(METHOD)
        for step in (observer.on_start, observer.on_received, observer.on_sent):
            step(call)
        observer.on_end(call, code)
        (line,) = output.getvalue().splitlines()
        return json.loads(line)

    return run


def call_that_raised(error: BaseException | None, reason: str = "") -> Call:
    call = Call(METHOD, Caller("spiffe://x/y", "acme"), "r-1")
    call.received, call.sent = 3, 4
    call.error, call.reason = error, reason
    return call


def fail() -> None:
    raise ValueError("secret-123")


def test_a_call_is_one_line(line_of: Any) -> None:
    line = line_of(call_that_raised(None), grpc.StatusCode.OK)
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp")
    assert line == {
        "event": "call",
        "level": "info",
        "logger": "server",
        "grpc_service": "kotaemon.v2.AgentService",
        "grpc_method": "AskQuestion",
        "grpc_code": "OK",
        "messages_received": 3,
        "messages_sent": 4,
        "principal": "spiffe://x/y",
        "tenant": "acme",
        "request_id": "r-1",
    }


def test_a_fault_is_an_error_with_its_place_and_without_its_words(line_of: Any) -> None:
    with pytest.raises(ValueError, match="secret-123") as raised:
        fail()
    line = line_of(call_that_raised(raised.value, "INTERNAL"), grpc.StatusCode.INTERNAL)
    assert (line["level"], line["reason"]) == ("error", "INTERNAL")
    assert line["exception"][0]["type"] == "builtins.ValueError"
    assert "test_access_log.py" in line["exception"][0]["frames"][0]
    assert "secret-123" not in json.dumps(line)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (StorageFull(), grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL"),
        (StorageUnavailable(), grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE"),
    ],
)
def test_what_the_operator_must_mend_is_a_warning(
    line_of: Any, error: Exception, code: grpc.StatusCode, reason: str
) -> None:
    line = line_of(call_that_raised(error, reason), code)
    assert (line["level"], line["reason"]) == ("warning", reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.NOT_FOUND, "COLLECTION_NOT_FOUND"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "DOCUMENT_TOO_LARGE"),
        (grpc.StatusCode.CANCELLED, ""),
    ],
)
def test_what_is_the_callers_doing_is_no_error(
    line_of: Any, code: grpc.StatusCode, reason: str
) -> None:
    line = line_of(call_that_raised(ValueError("x"), reason), code)
    assert (line["level"], line["grpc_code"]) == ("info", code.name)
    assert line.get("reason", "") == reason
    assert "exception" not in line
