"""Counts and times of calls, under the names of grpc-ecosystem.

Every message of every call is counted, on the event loop. An attribute that goes
up by one is a tenth of the work of a counter of the client library, which takes
a lock. A scrape reads on another thread: an integer is read as a whole, and what
is derived, as the count of a histogram, is derived from what was read once.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

_LABELS = (names.LABEL_TYPE, names.LABEL_SERVICE, names.LABEL_METHOD)
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_FAULTS = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
_NO_FAULTS = dict.fromkeys(_FAULTS, 0)
"""There before the first of them: a rate does not see a series begin above zero."""
_BOUNDS = (*map(floatToGoString, _BUCKETS_S), "+Inf")


class MethodCounts:
    """The calls of one method. Written on one thread, read on any.

    Attributes:
        started: calls that began.
        received: messages from clients.
        sent: messages to clients.
        ok: calls that ended with OK.
        failed: calls that ended with another code, by its name, as "NOT_FOUND".
        seconds: how long all calls took together.
        buckets: calls by how long they took: up to each bound, above the one before.
        exemplars: of each bucket the last call that was traced.
    """

    __slots__ = (
        "buckets",
        "exemplars",
        "failed",
        "ok",
        "received",
        "seconds",
        "sent",
        "started",
    )

    def __init__(self) -> None:
        """Begin at zero."""
        self.started = self.received = self.sent = self.ok = 0
        self.failed: dict[str, int] = {}
        self.seconds = 0.0
        self.buckets = [0] * len(_BOUNDS)
        self.exemplars: list[Exemplar | None] = [None] * len(_BOUNDS)

    def fail(self, code: str) -> None:
        """Count a call that ended with another code than OK."""
        self.failed[code] = self.failed.get(code, 0) + 1

    def took(self, seconds: float) -> int:
        """Count how long a call took; return the number of its bucket."""
        bucket = bisect_left(_BUCKETS_S, seconds)
        self.buckets[bucket] += 1
        self.seconds += seconds
        return bucket


class CallCounts(Collector):
    """The calls of all methods.

    Args:
        clock: tells the time of an exemplar, in seconds since the Unix epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._methods: dict[tuple[str, str, str], MethodCounts] = {}

    def for_method(self, call_type: str, service: str, method: str) -> MethodCounts:
        """Get the counts of a method, the same ones each time.

        Args:
            call_type: one of `names.TYPE_…`.
            service: the full name of the service.
            method: the name of the method.
        """
        return self._methods.setdefault((call_type, service, method), MethodCounts())

    def keep_exemplar(
        self, counts: MethodCounts, bucket: int, seconds: float, trace_id: str
    ) -> None:
        """Keep a call that was traced as the example of its bucket."""
        counts.exemplars[bucket] = Exemplar(
            {names.EXEMPLAR_TRACE_ID: trace_id}, seconds, self._clock()
        )

    def collect(self) -> Iterator[Metric]:
        """Read everything, for a scrape."""
        methods = list(self._methods.items())
        for name, text, attribute in (
            (names.SERVER_STARTED, "Calls started.", "started"),
            (names.SERVER_MSG_RECEIVED, "Messages received.", "received"),
            (names.SERVER_MSG_SENT, "Messages sent.", "sent"),
        ):
            family = CounterMetricFamily(name, text, labels=_LABELS)
            for labels, counts in methods:
                family.add_metric(labels, getattr(counts, attribute))
            yield family
        handled = CounterMetricFamily(
            names.SERVER_HANDLED,
            "Calls ended, whatever the code.",
            labels=(*_LABELS, names.LABEL_CODE),
        )
        took = HistogramMetricFamily(
            names.SERVER_HANDLING_SECONDS,
            "Time from the start of a call to its end.",
            labels=_LABELS,
        )
        for labels, counts in methods:
            for code, count in {"OK": counts.ok, **_NO_FAULTS, **counts.failed}.items():
                handled.add_metric((*labels, code), count)
            cumulated = accumulate(list(counts.buckets))
            buckets = [
                (bound, count) if exemplar is None else (bound, count, exemplar)
                for bound, count, exemplar in zip(_BOUNDS, cumulated, counts.exemplars, strict=True)
            ]
            took.add_metric(labels, buckets, counts.seconds)
        yield handled
        yield took
