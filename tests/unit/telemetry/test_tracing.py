from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kotaemon_grpc.telemetry.spans import CURRENT, Kind, Span, outgoing_headers, span
from kotaemon_grpc.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "kotaemon.v2.AgentService/AskQuestion"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=opaque"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-00", "tracestate": "vendor=opaque"}
A_TENTH = round(0.1 * 2**64)


class Ended(list[Span]):
    """A sink that keeps what it is given."""

    def offer(self, span: Span) -> None:
        self.append(span)


@pytest.fixture(autouse=True)
def end_of_the_task() -> Iterator[None]:
    """Forget the trace of a test when it ends, as the end of a call's task does."""
    token = CURRENT.set(None)
    yield
    CURRENT.reset(token)


@pytest.fixture
def ended() -> Ended:
    return Ended()


def test_a_call_without_a_context_starts_a_trace_of_its_own(ended: Ended) -> None:
    tracing = Tracing(ended, sample_ratio=1.0)

    trace_id, started = tracing.start_call(NAME, {}, {})
    other_id, _ = tracing.start_call(NAME, {}, {})

    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert other_id != trace_id
    assert started is not None
    assert (started.context.trace_id, started.parent_id) == (trace_id, "")


@pytest.mark.parametrize(
    "metadata",
    [
        {"traceparent": f"00-{TRACE}-{SPAN}-01-"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"tracestate": "vendor=opaque"},
    ],
)
def test_a_malformed_context_starts_a_new_trace(ended: Ended, metadata: dict[str, str]) -> None:
    trace_id, started = Tracing(ended, sample_ratio=1.0).start_call(NAME, {}, metadata)

    assert trace_id != TRACE
    assert started is not None
    assert (started.parent_id, started.context.state) == ("", "")


def test_a_sampled_call_continues_the_trace_of_its_caller(ended: Ended) -> None:
    trace_id, started = Tracing(ended, sample_ratio=0.0).start_call(NAME, {}, SAMPLED)

    assert trace_id == TRACE
    assert started is not None
    assert (started.parent_id, started.context.state) == (SPAN, "vendor=opaque")
    assert started.context.span_id != SPAN
    assert outgoing_headers() == {
        "traceparent": f"00-{TRACE}-{started.context.span_id}-01",
        "tracestate": "vendor=opaque",
    }


def test_the_callers_decision_not_to_sample_holds(ended: Ended) -> None:
    started = Tracing(ended, sample_ratio=1.0).start_call(NAME, {}, UNSAMPLED)

    assert started == (TRACE, None)
    assert outgoing_headers() == UNSAMPLED


@pytest.mark.parametrize("upper", ["0" * 15 + "1", "f" * 16])
@pytest.mark.parametrize(
    ("lower", "sampled"), [(1, True), (A_TENTH - 1, True), (A_TENTH, False), (2**64 - 1, False)]
)
@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_lower_half_of_the_trace_id_decides_if_the_caller_does_not(
    ended: Ended,
    upper: str,
    lower: int,
    sampled: bool,  # noqa: FBT001 - a table
    flags: str,
) -> None:
    tracing = Tracing(ended, sample_ratio=0.1, follow_parent=False)

    _, started = tracing.start_call(
        NAME, {}, {"traceparent": f"00-{upper}{lower:016x}-{SPAN}-{flags}"}
    )

    assert (started is not None) is sampled


@pytest.mark.parametrize(("ratio", "expected"), [(0.0, 0), (0.25, 250), (1.0, 1000)])
def test_a_share_of_new_traces_is_sampled(
    ended: Ended, monkeypatch: pytest.MonkeyPatch, ratio: float, expected: int
) -> None:
    tracing = Tracing(ended, sample_ratio=ratio)
    sampled = 0
    for number in range(1000):
        evenly_spread = number * 2**64 // 1000
        monkeypatch.setattr("random.getrandbits", lambda _bits, id_=evenly_spread: id_)
        sampled += tracing.start_call(NAME, {}, {})[1] is not None

    assert sampled == expected


def test_a_trace_that_is_not_sampled_here_goes_on_as_such(ended: Ended) -> None:
    Tracing(ended, sample_ratio=0.0, follow_parent=False).start_call(NAME, {}, SAMPLED)

    headers = outgoing_headers()

    assert re.fullmatch(f"00-{TRACE}-(?!{SPAN})[0-9a-f]{{16}}-00", headers["traceparent"])
    assert headers["tracestate"] == "vendor=opaque"


def test_a_new_trace_that_is_not_sampled_goes_on_too(ended: Ended) -> None:
    trace_id, started = Tracing(ended, sample_ratio=0.0).start_call(NAME, {}, {})

    assert started is None
    assert re.fullmatch(f"00-{trace_id}-[0-9a-f]{{16}}-00", outgoing_headers()["traceparent"])


@pytest.mark.parametrize("metadata", [SAMPLED, UNSAMPLED])
def test_without_a_receiver_the_callers_context_goes_on_as_it_came(
    metadata: dict[str, str],
) -> None:
    started = Tracing(None, sample_ratio=1.0).start_call(NAME, {}, metadata)

    assert started == (TRACE, None)
    assert outgoing_headers() == metadata


def test_without_a_receiver_a_call_still_has_a_trace_id() -> None:
    trace_id, started = Tracing(None, sample_ratio=1.0).start_call(NAME, {}, {})

    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert started is None


def test_outside_of_a_call_nothing_is_traced(ended: Ended) -> None:
    Tracing(ended, sample_ratio=1.0)

    with span("part", {"key": "value"}) as part:
        part.set("key", "other")

    assert outgoing_headers() == {}
    assert ended == []


def test_a_call_that_is_not_sampled_makes_no_spans(ended: Ended) -> None:
    Tracing(ended, sample_ratio=0.0).start_call(NAME, {}, {})
    before = CURRENT.get()

    with span("part", {"key": "value"}) as part:
        part.set("key", "other")
        assert CURRENT.get() is before

    assert ended == []


def test_parts_nest_and_are_what_outgoing_calls_belong_to(ended: Ended) -> None:
    _, call = Tracing(ended, sample_ratio=1.0).start_call(NAME, {}, {})
    assert call is not None

    with span("outer", {}) as outer:
        assert isinstance(outer, Span)
        with span("inner", {}, Kind.CLIENT) as inner:
            assert isinstance(inner, Span)
            assert outgoing_headers() == {"traceparent": inner.context.header()}
    with span("next", {}) as following:
        assert isinstance(following, Span)

    assert ended == [inner, outer, following]
    assert inner.parent_id == outer.context.span_id
    assert outer.parent_id == following.parent_id == call.context.span_id
    assert {each.context.trace_id for each in ended} == {call.context.trace_id}


def test_a_clock_that_was_set_back_makes_no_negative_durations(ended: Ended) -> None:
    times = iter([1000, 400])
    tracing = Tracing(ended, sample_ratio=1.0, clock=lambda: next(times))
    _, call = tracing.start_call(NAME, {}, {})
    assert call is not None

    call.end()

    assert (ended[0].start_ns, ended[0].end_ns) == (1000, 1000)


def test_nothing_of_opentelemetry_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys\n"
        "import kotaemon_grpc.pipeline.tracing, kotaemon_grpc.engines.traced\n"
        "import kotaemon_grpc.telemetry.tracing, kotaemon_grpc.telemetry.otlp\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
