"""The trace that a call belongs to, as it travels between programs: W3C Trace Context, level 1."""

from __future__ import annotations

import re
from typing import NamedTuple

from kotaemon_grpc.wire.headers import TRACEPARENT, TRACESTATE

MAX_STATE_CHARS = 512
"""What must be passed on at least (section 3.3.1.5); longer ones are not."""

_MAX_STATE_MEMBERS = 32  # section 3.3.1.1
_SAMPLED = 0x01  # section 3.2.2.5.1: the only flag of level 1
_VERSION_0_CHARS = 55

# Section 3.2.2. A later version may have more after another dash (section 3.2.4).
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?!0{32})(?P<trace_id>[0-9a-f]{32})"
    r"-(?!0{16})(?P<span_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?:-.*)?",
    re.ASCII,
)
# Sections 3.3.1.3.1 and 3.3.1.3.2.
_STATE_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)


class TraceContext(NamedTuple):
    """A span's place in a trace.

    Args:
        trace_id: 32 lower-case hexadecimal digits, not all zero.
        span_id: 16 of them, likewise.
        sampled: whether the span is recorded by who made it.
        state: the systems that took part, as they wrote it; passed on as it came.
    """

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""

    def header(self) -> str:
        """Return the `traceparent`."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def headers(self) -> dict[str, str]:
        """Return the metadata of a call that this span makes."""
        headers = {TRACEPARENT: self.header()}
        if self.state:
            headers[TRACESTATE] = self.state
        return headers


def parse(traceparent: str | bytes, tracestate: str | bytes = "") -> TraceContext | None:
    """Read a trace context; None if `traceparent` is malformed, which starts a new trace.

    A malformed `tracestate` is left out and harms nothing else (section 3.3).
    """
    if not isinstance(traceparent, str):
        return None
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found["version"] == "00" and len(traceparent) != _VERSION_0_CHARS):
        return None
    return TraceContext(
        trace_id=found["trace_id"],
        span_id=found["span_id"],
        sampled=bool(int(found["flags"], 16) & _SAMPLED),
        state=_state(tracestate),
    )


def _state(value: str | bytes) -> str:
    if not value or not isinstance(value, str) or len(value) > MAX_STATE_CHARS:
        return ""
    # Members may be empty, and have white space around them (section 3.3.1.1).
    members = [member for part in value.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    valid = (
        len(members) <= _MAX_STATE_MEMBERS
        and len(keys) == len(members)
        and all(_STATE_MEMBER.fullmatch(member) for member in members)
    )
    return value if valid else ""
