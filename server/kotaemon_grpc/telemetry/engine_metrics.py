"""What one answer engine does, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

_ENGINE = [names.LABEL_ENGINE]
_FIRST_TOKEN_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ENGINE_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class EngineMetrics:
    """The metrics of one engine, labels resolved.

    Attributes:
        observe_first_token: takes the seconds from a question to the first piece of its answer.
        observe_answer: takes the seconds from a question to the end of its answer.
    """

    def __init__(self, families: EngineFamilies, engine: str) -> None:
        """Resolve the labels; `engine` is a name of the configuration."""
        self.observe_first_token = families.first_token.labels(engine).observe
        self.observe_answer = families.answer.labels(engine).observe
        self._input = families.tokens.labels(engine, names.DIRECTION_INPUT)
        self._output = families.tokens.labels(engine, names.DIRECTION_OUTPUT)
        self._in_flight = families.in_flight.labels(engine)
        self._waiting = families.waiting.labels(engine)

    def count_tokens(self, read: int, written: int) -> None:
        """Count the tokens that a model read for an answer, and wrote."""
        self._input.inc(read)
        self._output.inc(written)

    def ask_load(self, in_flight: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Take what to ask at each scrape, on a thread of its own.

        Args:
            in_flight: how many calls the engine works on.
            waiting: how many wait for it.
        """
        self._in_flight.set_function(in_flight)
        self._waiting.set_function(waiting)


class EngineFamilies:
    """The metrics of all engines."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics; a registry takes them once."""
        self.first_token = Histogram(
            names.FIRST_TOKEN_SECONDS,
            "Time from a question to the first piece of its answer.",
            _ENGINE,
            buckets=_FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self.answer = Histogram(
            names.ENGINE_SECONDS,
            "Time from a question to the end of the engine's answer.",
            _ENGINE,
            buckets=_ENGINE_BUCKETS_S,
            registry=registry,
        )
        self.tokens = Counter(
            names.TOKENS,
            "Tokens that the engine's model read (input) and wrote (output).",
            [*_ENGINE, names.LABEL_DIRECTION],
            registry=registry,
        )
        self.in_flight = Gauge(
            names.ENGINE_IN_FLIGHT,
            "Calls that the engine works on.",
            _ENGINE,
            registry=registry,
        )
        self.waiting = Gauge(
            names.ENGINE_WAITING,
            "Calls that wait for a place at the engine.",
            _ENGINE,
            registry=registry,
        )
