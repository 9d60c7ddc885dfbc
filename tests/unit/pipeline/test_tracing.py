from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from kotaemon_grpc.core.errors import StorageUnavailable
from kotaemon_grpc.pipeline.tracing import CallTracing
from kotaemon_grpc.telemetry.spans import outgoing_headers
from kotaemon_grpc.telemetry.tracing import Tracing
from kotaemon_grpc.wire.reasons import Reason

METHOD: Any = SimpleNamespace(service="kotaemon.v2.AgentService", name="AskQuestion")
NAME = "kotaemon.v2.AgentService/AskQuestion"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
PLANTED = "who-is-the-heir-of-the-mill"
ERRORS = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}


@dataclass
class Call:
    """What tracing sees of a call."""

    metadata: dict[str, str | bytes] = field(default_factory=dict)
    trace_id: str = ""
    span: Any = None
    reason: str = ""
    error: BaseException | None = None


async def test_a_sampled_call_has_a_span_of_its_callers_trace(traces: Any) -> None:
    observer: Any = CallTracing(traces.tracing()).observer(METHOD)
    call = Call({"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=opaque"})

    observer.on_start(call)
    observer.on_end(call, grpc.StatusCode.OK)

    [span] = await traces.spans()
    assert call.trace_id == span.trace_id == TRACE
    assert span.parent_id == PARENT
    assert span.message.trace_state == "vendor=opaque"
    assert span.name == NAME
    assert span.message.kind == 2
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": NAME,
        "rpc.response.status_code": "OK",
    }
    assert not span.has_status
    assert span.events == []


async def test_every_code_is_told_and_those_that_are_errors_of_the_server_are_errors(
    traces: Any,
) -> None:
    observer: Any = CallTracing(traces.tracing()).observer(METHOD)

    for code in grpc.StatusCode:
        call = Call()
        observer.on_start(call)
        observer.on_end(call, code)

    spans = {span.attributes["rpc.response.status_code"]: span for span in await traces.spans()}
    assert set(spans) == {code.name for code in grpc.StatusCode}
    assert {code for code, span in spans.items() if span.is_error} == ERRORS
    assert {code for code, span in spans.items() if span.has_status} == ERRORS
    assert {code for code in ERRORS if spans[code].attributes["error.type"] != code} == set()
    assert {code for code, span in spans.items() if "error.type" in span.attributes} == ERRORS


@pytest.mark.parametrize(
    ("code", "error", "exception"),
    [
        (grpc.StatusCode.INTERNAL, ValueError(PLANTED), "builtins.ValueError"),
        (
            grpc.StatusCode.UNAVAILABLE,
            StorageUnavailable(),
            "kotaemon_grpc.core.errors.StorageUnavailable",
        ),
        (grpc.StatusCode.ABORTED, ValueError(PLANTED), ""),
        (grpc.StatusCode.CANCELLED, asyncio.CancelledError(PLANTED), ""),
        (grpc.StatusCode.DEADLINE_EXCEEDED, asyncio.CancelledError(PLANTED), ""),
    ],
)
async def test_how_a_call_failed_is_told_by_names_alone(
    traces: Any, code: grpc.StatusCode, error: BaseException, exception: str
) -> None:
    observer: Any = CallTracing(traces.tracing()).observer(METHOD)
    call = Call({"x-question": PLANTED, "authorization": PLANTED})
    observer.on_start(call)
    call.error, call.reason = error, Reason.INTERNAL

    observer.on_end(call, code)

    [span] = await traces.spans()
    assert span.attributes["rpc.response.status_code"] == code.name
    assert span.attributes["kotaemon.reason"] == "INTERNAL"
    assert span.is_error is (code.name in ERRORS)
    assert span.events == ([("exception", {"exception.type": exception})] if exception else [])
    assert PLANTED.encode() not in traces.receiver.requests[0].SerializeToString()


async def test_a_call_that_is_not_sampled_has_a_trace_id_and_no_span(traces: Any) -> None:
    observer: Any = CallTracing(traces.tracing(sample_ratio=0.0)).observer(METHOD)
    call = Call()

    observer.on_start(call)
    observer.on_end(call, grpc.StatusCode.INTERNAL)

    assert len(call.trace_id) == 32
    assert call.span is None
    assert await traces.spans() == []
    assert traces.receiver.requests == []


async def test_calls_at_the_same_time_have_traces_of_their_own() -> None:
    observer: Any = CallTracing(Tracing(None)).observer(METHOD)
    both_began = asyncio.Barrier(2)

    async def serve(call: Call) -> bool:
        observer.on_start(call)
        await both_began.wait()
        return call.trace_id in outgoing_headers()["traceparent"]

    first, second = Call(), Call()

    assert await asyncio.gather(serve(first), serve(second)) == [True, True]
    assert first.trace_id != second.trace_id


def test_messages_are_not_watched() -> None:
    observer = CallTracing(Tracing(None)).observer(METHOD)

    assert not hasattr(observer, "on_received")
    assert not hasattr(observer, "on_sent")
