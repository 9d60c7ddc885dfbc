"""The metrics of the server. No label has a value that a client chose."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from kotaemon_grpc.core.errors import CredentialProblem
from kotaemon_grpc.core.model import FinishReason
from kotaemon_grpc.telemetry import names
from kotaemon_grpc.telemetry.call_counts import CallCounts
from kotaemon_grpc.telemetry.engine_metrics import EngineFamilies, EngineMetrics
from kotaemon_grpc.telemetry.figures import Figures
from kotaemon_grpc.wire.reasons import Reason

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

_LOOP_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_RETRIEVAL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SHEDS = (
    names.SHED_QUEUE_FULL,
    names.SHED_WOULD_EXPIRE,
    names.SHED_TIMED_OUT,
    names.SHED_RATE_LIMITED,
)
_DENIALS = (
    *(Reason[f"CREDENTIALS_{problem.name}"] for problem in CredentialProblem),
    Reason.TLS_VERSION_TOO_OLD,
    Reason.METHOD_NOT_ALLOWED,
    Reason.COLLECTION_NOT_ALLOWED,
)
_TLS_VERSIONS = frozenset({"TLSv1.2", "TLSv1.3"})
# Key exchanges as BoringSSL names them, SSL_get_group_name.
_GROUPS = frozenset({"X25519MLKEM768", "MLKEM1024", "X25519", "P-256", "P-384", "P-521"})


class Metrics:
    """All metrics of one server, in a registry of its own.

    Attributes:
        registry: where they are.
        calls: the counts and times of calls.
        observe_retrieval: takes the seconds that a search for passages took.
        observe_loop_lag: takes the seconds that the event loop was late.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        """Register the metrics; a registry takes them once.

        Args:
            registry: where they are.
            clock: tells the time in seconds since the Unix epoch.
        """
        # For all registries of the process: the library has no other switch. The
        # series would double what is stored, and nobody asks for them.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = registry
        self._clock = clock
        self.calls = CallCounts(clock)
        registry.register(self.calls)
        self._figures = Figures()
        registry.register(self._figures)
        self._engines = EngineFamilies(registry)
        self._register_refusals(registry)
        self._register_health(registry)
        answers = Counter(
            names.ANSWERS,
            "Answers given, by why they end.",
            [names.LABEL_FINISH_REASON],
            registry=registry,
        )
        self._answers = {reason: answers.labels(reason.value) for reason in FinishReason}
        self.observe_retrieval = Histogram(
            names.RETRIEVAL_SECONDS,
            "Time that a search for passages took.",
            buckets=_RETRIEVAL_BUCKETS_S,
            registry=registry,
        ).observe

    def _register_refusals(self, registry: CollectorRegistry) -> None:
        shed = Counter(
            names.SHED,
            "Calls refused because there was no room for them, by reason.",
            [names.LABEL_REASON],
            registry=registry,
        )
        self._shed = {reason: shed.labels(reason) for reason in _SHEDS}
        denied = Counter(
            names.DENIED,
            "Calls refused because of who called, by reason.",
            [names.LABEL_REASON],
            registry=registry,
        )
        self._denied = {reason.value: denied.labels(reason.value) for reason in _DENIALS}
        self._verified = Counter(
            names.CREDENTIALS_VERIFIED,
            "Credentials verified, by the TLS of the connection that they came over first. "
            "Calls with credentials that are still known are not counted.",
            [names.LABEL_TLS_VERSION, names.LABEL_GROUP],
            registry=registry,
        )

    def _register_health(self, registry: CollectorRegistry) -> None:
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
        self._reload_failures = Counter(
            names.RELOAD_FAILURES,
            "Times that something new could not be taken, so that the old was kept.",
            [names.LABEL_WHAT],
            registry=registry,
        )
        self._last_reload = Gauge(
            names.LAST_RELOAD,
            "When it was last read with success, in seconds since the Unix epoch.",
            [names.LABEL_WHAT],
            registry=registry,
        )
        self.observe_loop_lag = Histogram(
            names.LOOP_LAG_SECONDS,
            "How late the event loop came to what was due, measured twice a second.",
            buckets=_LOOP_LAG_BUCKETS_S,
            registry=registry,
        ).observe

    def for_engine(self, engine: str) -> EngineMetrics:
        """Resolve the labels of an engine, by its name in the configuration."""
        return EngineMetrics(self._engines, engine)

    def count_answer(self, reason: FinishReason) -> None:
        """Count an answer."""
        self._answers[reason].inc()

    def count_shed(self, reason: str) -> None:
        """Count a call that there was no room for, by one of `names.SHED_…`."""
        self._shed[reason].inc()

    def count_denied(self, reason: str) -> None:
        """Count a call that failed, by its `Reason`, if that is who called."""
        counter = self._denied.get(reason)
        if counter is not None:
            counter.inc()

    def count_verified(self, tls_version: str, group: str) -> None:
        """Count credentials that were verified, as they were not known yet.

        Args:
            tls_version: of their connection, as `TLSv1.3`; empty without TLS.
            group: of its key exchange, as `X25519MLKEM768`; empty without one.
        """
        self._verified.labels(_known(tls_version, _TLS_VERSIONS), _known(group, _GROUPS)).inc()

    def on_reload(self, what: str) -> Callable[[bool], None]:
        """Make what is told, after each attempt to read something anew, whether it succeeded.

        Args:
            what: is read, one of `names.RELOAD_…`.
        """
        failures = self._reload_failures.labels(what)
        last = self._last_reload.labels(what)

        def note(succeeded: bool) -> None:  # noqa: FBT001 - as those who reload call it
            if succeeded:
                last.set(self._clock())
            else:
                failures.inc()

        return note

    def set_build_info(self, version: str) -> None:
        """Say which version runs."""
        self._build_info.labels(version).set(1)

    def set_certificate_expiry(self, file: str, expires: dt.datetime) -> None:
        """Say when a file's first certificate expires."""
        self._expiry.labels(file).set(expires.timestamp())

    def ask_store(
        self,
        *,
        documents: Callable[[], float],
        passages: Callable[[], float],
        index_lag: Callable[[], float],
    ) -> None:
        """Take what to ask at each scrape, on a thread of its own.

        Args:
            documents: how many documents are stored.
            passages: how many passages they have.
            index_lag: how many collections have changes that questions do not find yet.
        """
        self._figures.ask(names.DOCUMENTS, documents)
        self._figures.ask(names.PASSAGES, passages)
        self._figures.ask(names.INDEX_LAG, index_lag)

    def ask_index_size(self, size_bytes: Callable[[], float]) -> None:
        """Take what tells the size of the search indexes, on a thread of its own."""
        self._figures.ask(names.INDEX_SIZE, size_bytes)

    def ask_requests(self, remembered: Callable[[], float]) -> None:
        """Take what counts the requests that are remembered, on a thread of its own."""
        self._figures.ask(names.REQUESTS, remembered)

    def ask_log(self, dropped_lines: Callable[[], Mapping[str, int]]) -> None:
        """Take what counts the log lines that were lost, by their kind."""
        self._figures.ask_by(names.LOG_LINES_DROPPED, names.LABEL_KIND, dropped_lines)

    def ask_traces(self, dropped_spans: Callable[[], int]) -> None:
        """Take what counts the spans that were lost."""
        self._figures.ask(names.SPANS_DROPPED, dropped_spans)


def _known(value: str, known: frozenset[str]) -> str:
    if not value:
        return names.VALUE_NONE
    return value if value in known else names.VALUE_OTHER
