from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kotaemon_grpc.telemetry.trace_context import TraceContext, parse

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
HEX = "0123456789abcdef"


def test_a_valid_context_is_read_and_written_back() -> None:
    context = parse(VALID, "vendor=opaque,other@tenant=x/y")

    assert context == TraceContext(
        TRACE, SPAN, sampled=True, state="vendor=opaque,other@tenant=x/y"
    )
    assert context.headers() == {
        "traceparent": VALID,
        "tracestate": "vendor=opaque,other@tenant=x/y",
    }


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_lowest_flag_counts_and_only_it_goes_on(flags: str, sampled: bool) -> None:  # noqa: FBT001 - a table
    context = parse(f"00-{TRACE}-{SPAN}-{flags}")

    assert context is not None
    assert context.sampled is sampled
    assert context.header() == f"00-{TRACE}-{SPAN}-{'01' if sampled else '00'}"


@pytest.mark.parametrize("more", ["", "-", "-what comes then"])
def test_a_later_version_is_read_as_far_as_it_is_known(more: str) -> None:
    context = parse(f"cc-{TRACE}-{SPAN}-01{more}")

    assert context is not None
    assert context.header() == VALID


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        VALID.upper(),
        f" {VALID}",
        f"{VALID}\n",
        f"{VALID}-",
        f"{VALID}-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        VALID.encode(),
    ],
)
def test_a_malformed_context_is_none(traceparent: str | bytes) -> None:
    assert parse(traceparent, "vendor=opaque") is None


@pytest.mark.parametrize(
    "tracestate",
    [
        "vendor",
        "=value",
        "vendor=",
        "Vendor=value",
        "vendor=a=b",
        "vendor=value,vendor=value",
        "vendor=\u00e9",
        "vendor=a\nb",
        "9vendor=value",
        "a@9tenant=value",
        "a" * 257 + "=value",
        ",".join(f"v{number}=x" for number in range(33)),
        "v=" + "x" * 257,
        ",".join("v" + "x" * 100 + f"{n}=y" for n in range(6)),
        b"vendor=value",
    ],
)
def test_a_malformed_state_is_left_out_and_harms_nothing(tracestate: str | bytes) -> None:
    assert parse(VALID, tracestate) == TraceContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "tracestate",
    [
        "v=1",
        "v=1, w=2\t,x=3",
        "v=1,,w=2",
        "0a@b=1",
        ",".join(f"v{number}=x" for number in range(32)),
        "v=" + "x" * 256,
    ],
)
def test_a_valid_state_goes_on_as_it_came(tracestate: str) -> None:
    context = parse(VALID, tracestate)

    assert context is not None
    assert context.state == tracestate


@given(
    trace_id=st.text(HEX, min_size=32, max_size=32).filter(lambda text: text.strip("0")),
    span_id=st.text(HEX, min_size=16, max_size=16).filter(lambda text: text.strip("0")),
    sampled=st.booleans(),
)
def test_what_is_written_is_read_the_same(trace_id: str, span_id: str, sampled: bool) -> None:  # noqa: FBT001 - Hypothesis passes it
    context = TraceContext(trace_id, span_id, sampled)

    assert parse(context.header()) == context


@given(st.text() | st.binary(), st.text() | st.binary())
def test_whatever_comes_is_read_or_refused(
    traceparent: str | bytes, tracestate: str | bytes
) -> None:
    context = parse(traceparent, tracestate)

    assert context is None or parse(context.header(), context.state) == context


@given(st.text() | st.binary())
def test_whatever_state_comes_the_trace_goes_on(tracestate: str | bytes) -> None:
    context = parse(VALID, tracestate)

    assert context is not None
    assert context.trace_id == TRACE
    assert context.state in ("", tracestate)
