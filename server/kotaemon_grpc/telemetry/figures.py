"""Figures that others keep, asked for at each scrape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from kotaemon_grpc.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_FIGURES: tuple[tuple[type[GaugeMetricFamily | CounterMetricFamily], str, str], ...] = (
    (GaugeMetricFamily, names.DOCUMENTS, "Documents stored."),
    (GaugeMetricFamily, names.PASSAGES, "Passages of the documents stored."),
    (
        GaugeMetricFamily,
        names.INDEX_LAG,
        "Collections with changes that questions do not find yet.",
    ),
    (GaugeMetricFamily, names.INDEX_SIZE, "Size of the search indexes on disk."),
    (GaugeMetricFamily, names.REQUESTS, "Requests of which the outcome is remembered."),
    (
        CounterMetricFamily,
        names.LOG_LINES_DROPPED,
        "Log lines that nobody took in time, or that could not be made or written, by kind.",
    ),
    (
        CounterMetricFamily,
        names.SPANS_DROPPED,
        "Spans that could not be exported in time, or that the receiver did not take.",
    ),
)


class Figures(Collector):
    """The figures. One that nobody has said whom to ask for has no value."""

    def __init__(self) -> None:
        """Begin without any."""
        self._asked: dict[str, Callable[[], float]] = {}
        self._asked_by_label: dict[str, tuple[str, Callable[[], Mapping[str, float]]]] = {}

    def ask(self, name: str, figure: Callable[[], float]) -> None:
        """Take what to ask for a figure, on a thread of its own.

        Args:
            name: of the metric, one of `names`.
            figure: returns it; may raise when it cannot be had.
        """
        self._asked[name] = figure

    def ask_by(self, name: str, label: str, figures: Callable[[], Mapping[str, float]]) -> None:
        """Take what to ask for the figures of a metric by the value of its only label.

        Args:
            name: of the metric, one of `names`.
            label: of the figures, one of `names.LABEL_…`.
            figures: returns them; must not raise.
        """
        self._asked_by_label[name] = (label, figures)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Ask for every figure, for a scrape."""
        for family_of, name, text in _FIGURES:
            figure, by_label = self._asked.get(name), self._asked_by_label.get(name)
            family = family_of(name, text, labels=by_label[:1] if by_label else ())
            if figure is not None:
                family.add_metric([], _or_nan(figure))
            if by_label is not None:
                for value, found in by_label[1]().items():
                    family.add_metric([value], found)
            yield family


def _or_nan(figure: Callable[[], float]) -> float:
    """Make a figure that cannot be had one that is not known: the others are needed then."""
    try:
        return figure()
    except Exception:  # noqa: BLE001 - one broken figure must not cost the whole scrape
        return math.nan
