"""The metrics of the server.

Counting happens on every message: what can be looked up once is looked up when
the server is built.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from kotaemon_grpc.core.errors import AgentError
from kotaemon_grpc.core.model import FinishReason
from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator

_METHOD_LABELS = (names.LABEL_TYPE, names.LABEL_SERVICE, names.LABEL_METHOD)
_HANDLING_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class MethodMetrics:
    """The metrics of one method, labels resolved.

    Attributes:
        started: calls that a handler took up.
        received: messages from the client.
        sent: messages to the client.
        handling_seconds: how long calls took.
    """

    __slots__ = (
        "_handled",
        "_handled_by_code",
        "_labels",
        "handling_seconds",
        "received",
        "sent",
        "started",
    )

    def __init__(
        self,
        labels: tuple[str, str, str],
        started: Counter,
        handled: Counter,
        messages: tuple[Counter, Counter],
        handling_seconds: Histogram,
    ) -> None:
        """Take type, service and method, and the metrics to resolve them in."""
        received, sent = messages
        self.started = started.labels(*labels)
        self.received = received.labels(*labels)
        self.sent = sent.labels(*labels)
        self.handling_seconds = handling_seconds.labels(*labels)
        self._labels = labels
        self._handled = handled
        self._handled_by_code: dict[str, Counter] = {}
        self.handled("OK")

    def handled(self, code: str) -> Counter:
        """Get the counter of calls that ended with a code, by its name, as "NOT_FOUND"."""
        child = self._handled_by_code.get(code)
        if child is None:
            child = self._handled.labels(*self._labels, code)
            self._handled_by_code[code] = child
        return child


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics; a registry takes them once."""
        self.registry = registry
        self._started = Counter(
            names.SERVER_STARTED, "Calls started.", _METHOD_LABELS, registry=registry
        )
        self._handled = Counter(
            names.SERVER_HANDLED,
            "Calls ended, whatever the code.",
            (*_METHOD_LABELS, names.LABEL_CODE),
            registry=registry,
        )
        self._received = Counter(
            names.SERVER_MSG_RECEIVED, "Messages received.", _METHOD_LABELS, registry=registry
        )
        self._sent = Counter(
            names.SERVER_MSG_SENT, "Messages sent.", _METHOD_LABELS, registry=registry
        )
        self._handling_seconds = Histogram(
            names.SERVER_HANDLING_SECONDS,
            "Time from the start of a call to its end.",
            _METHOD_LABELS,
            buckets=_HANDLING_BUCKETS_S,
            registry=registry,
        )
        self._build_info = Gauge(
            names.BUILD_INFO,
            "1, with the version as label.",
            [names.LABEL_VERSION],
            registry=registry,
        )
        self._expiry = Gauge(
            names.CERTIFICATE_EXPIRY,
            "When the first certificate of a file expires, in seconds since the Unix epoch.",
            [names.LABEL_FILE],
            registry=registry,
        )
        answers = Counter(
            names.ANSWERS,
            "Answers given, by why they end.",
            [names.LABEL_FINISH_REASON],
            registry=registry,
        )
        self._answers = {reason: answers.labels(reason.value) for reason in FinishReason}

    def for_method(self, call_type: str, service: str, method: str) -> MethodMetrics:
        """Resolve the labels of a method, once, when the server is built.

        Args:
            call_type: one of `names.TYPE_…`.
            service: the full name of the service.
            method: the name of the method.
        """
        return MethodMetrics(
            (call_type, service, method),
            self._started,
            self._handled,
            (self._received, self._sent),
            self._handling_seconds,
        )

    def answered(self, reason: FinishReason) -> None:
        """Count an answer."""
        self._answers[reason].inc()

    def set_build_info(self, version: str) -> None:
        """Say which version runs."""
        self._build_info.labels(version).set(1)

    def set_certificate_expiry(self, file: str, expires: dt.datetime) -> None:
        """Say when a file's first certificate expires."""
        self._expiry.labels(file).set(expires.timestamp())

    def observe_store(
        self,
        *,
        documents: Callable[[], float],
        passages: Callable[[], float],
        index_lag: Callable[[], float],
    ) -> None:
        """Register what to ask at each scrape, on a thread of its own; once.

        Args:
            documents: how many documents are stored.
            passages: how many passages they have.
            index_lag: how many collections have changes that questions do not find yet.
        """
        for name, text, ask in (
            (names.DOCUMENTS, "Documents stored.", documents),
            (names.PASSAGES, "Passages of the documents stored.", passages),
            (
                names.INDEX_LAG,
                "Collections with changes that questions do not find yet.",
                index_lag,
            ),
        ):
            Gauge(name, text, registry=self.registry).set_function(_or_nan(ask))

    def observe_log(self, dropped_lines: Callable[[], int]) -> None:
        """Register what counts the log lines that were lost; once."""
        self.registry.register(_DroppedLines(dropped_lines))


class _DroppedLines(Collector):
    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            names.LOG_LINES_DROPPED, "Log lines that nobody took in time.", value=self._count()
        )


def _or_nan(ask: Callable[[], float]) -> Callable[[], float]:
    """Make a figure that cannot be had one that is not known: the others are needed then."""

    def figure() -> float:
        try:
            return ask()
        except AgentError:
            return math.nan

    return figure
