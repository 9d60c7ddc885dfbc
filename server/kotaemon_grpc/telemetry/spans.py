"""What a sampled call did, and when.

A span is a plain record until it has ended: names, numbers and times, never the
text of a question, an answer, a document or an exception. The sink makes of it
what goes over the wire, on a thread of its own.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

from kotaemon_grpc.telemetry import attributes
from kotaemon_grpc.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextvars import Token
    from types import TracebackType


Value: TypeAlias = "str | bool | int | float | Sequence[str]"

_SPAN_ID_BITS = 64

CURRENT: ContextVar[Span | TraceContext | str | None] = ContextVar(
    "kotaemon_grpc_trace", default=None
)
"""The span that the running code is part of.

Of a call that is not sampled, the trace context that goes on to whom it calls, or the
trace id alone: the rest is made when it is asked for, which it seldom is.
"""


class Kind(enum.Enum):
    """What part a span has in its call; the values are those of OTLP's `Span.SpanKind`."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Sink(Protocol):
    """Where spans go when they have ended."""

    def offer(self, span: Span) -> None:
        """Take a span, or drop and count it. Called on the event loop; must not block."""
        ...


class Span:
    """A part of a sampled call; as a context manager it is current, and ends with the block.

    Attributes:
        context: its place in the trace.
        parent_id: the id of the span above it; empty if it is the first.
        kind: its part in the call.
        attributes: what is known of it; may be written until it ends.
        events: the time and the type of exceptions.
        is_error: whether it failed by fault of this server or of what it uses.
        start_ns, end_ns: nanoseconds of Unix time; `end_ns` is 0 while it goes on.
    """

    __slots__ = (
        "_clock",
        "_sink",
        "_token",
        "attributes",
        "context",
        "end_ns",
        "events",
        "is_error",
        "kind",
        "name",
        "parent_id",
        "start_ns",
    )

    def __init__(
        self,
        name: str,
        context: TraceContext,
        sink: Sink,
        *,
        parent_id: str = "",
        kind: Kind = Kind.INTERNAL,
        attributes: Mapping[str, Value] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Begin."""
        self.name = name
        self.context = context
        self.parent_id = parent_id
        self.kind = kind
        self.attributes: dict[str, Value] = dict(attributes or ())
        self.events: list[tuple[int, str]] = []
        self.is_error = False
        self.start_ns = clock()
        self.end_ns = 0
        self._sink = sink
        self._clock = clock
        self._token: Token[Span | TraceContext | str | None] | None = None

    def child(self, name: str, attributes: Mapping[str, Value], kind: Kind = Kind.INTERNAL) -> Span:
        """Begin a part of this one."""
        return Span(
            name,
            self.context._replace(span_id=new_span_id()),
            self._sink,
            parent_id=self.context.span_id,
            kind=kind,
            attributes=attributes,
            clock=self._clock,
        )

    @property
    def elapsed_s(self) -> float:
        """The seconds since the span began."""
        return max(0, self._clock() - self.start_ns) / 1e9

    def set(self, name: str, value: Value) -> None:
        """Note something that is known now."""
        self.attributes[name] = value

    def fail(self, error_type: str) -> None:
        """Note that it failed, with a code or the name of a type."""
        self.is_error = True
        self.attributes[attributes.ERROR_TYPE] = error_type

    def saw(self, error: BaseException) -> None:
        """Note that an exception passed, by its type alone."""
        self.events.append((self._clock(), type_name(error)))

    def end_with(self, error: BaseException | None) -> None:
        """End, with what ended it. Whoever was cancelled, or closed early, did not fail."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.attributes[attributes.CANCELLED] = True
        elif error is not None:
            self.saw(error)
            self.fail(type_name(error))
        self.end()

    def end(self) -> None:
        """End."""
        # The clock of the machine may have been set back.
        self.end_ns = max(self.start_ns, self._clock())
        self._sink.offer(self)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make spans that begin in the block parts of this one."""
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)

    def __enter__(self) -> Self:
        self._token = CURRENT.set(self)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
        self.end_with(error)


class NoSpan:
    """What stands for the spans of a call that is not sampled: it does nothing."""

    __slots__ = ()

    def set(self, name: str, value: Value) -> None:
        """Forget it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


_NO_SPAN = NoSpan()


def span(name: str, attributes: Mapping[str, Value], kind: Kind = Kind.INTERNAL) -> Span | NoSpan:
    """Begin a part of what runs now, to be used in a `with` block.

    Args:
        name: of few values: spans are grouped by it.
        attributes: what is known already; never a text of a user's.
        kind: `Kind.CLIENT` for a call to another program.
    """
    above = current_span()
    return _NO_SPAN if above is None else above.child(name, attributes, kind)


def current_span() -> Span | None:
    """Return the span that the running code is part of; None in a call that is not sampled."""
    current = CURRENT.get()
    return current if isinstance(current, Span) else None


def outgoing_headers() -> dict[str, str]:
    """Return the metadata that makes an outgoing call a part of the trace; empty outside of one."""
    match CURRENT.get():
        case Span(context=context):
            return context.headers()
        case TraceContext() as context:
            return context.headers()
        case str() as trace_id:
            return TraceContext(trace_id, new_span_id(), sampled=False).headers()
        case None:
            return {}


def new_span_id() -> str:
    """Return 16 random hexadecimal digits."""
    return f"{random.getrandbits(_SPAN_ID_BITS) or 1:016x}"


def type_name(error: BaseException) -> str:
    """Return the full name of an exception's type, as `builtins.ValueError`."""
    return f"{type(error).__module__}.{type(error).__qualname__}"
