"""What rounds gave, and which of them count."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from load import Rate

LEAST_SERVER_BUSY = 0.85
"""A server that is asked for all it can do and has less of its core shared it with others."""
LEAST_BARE_PER_S = 4000
"""A round in which the bare handler does less says little: the machine was busy, or is slow."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the rounds gave.

    Args:
        rounds: by peer its rate, for each round.
    """

    rounds: Sequence[Mapping[str, Rate]]

    @property
    def undisturbed(self) -> Sequence[Mapping[str, Rate]]:
        """The rounds in which every server had its core to itself."""
        return [
            each
            for each in self.rounds
            if all(rate.server_busy >= LEAST_SERVER_BUSY for rate in each.values())
        ]

    @property
    def counted(self) -> Sequence[Mapping[str, Rate]]:
        """Those of them in which the bare handler was fast enough."""
        return [
            each
            for each in self.undisturbed
            if "bare" in each and each["bare"].per_s >= LEAST_BARE_PER_S
        ]

    @property
    def best(self) -> Sequence[Mapping[str, Rate]]:
        """The rounds that all figures are of.

        They are those that count; if none does, those that were not disturbed; if there
        are none either, all.
        """
        return self.counted or self.undisturbed or self.rounds

    @property
    def is_provisional(self) -> bool:
        """Whether no round counts."""
        return not self.counted

    def ratio(self, peer: str, other: str) -> float | None:
        """Return the median of the ratios within a round; None if one of the two was left out."""
        rounds = [each for each in self.best if {peer, other} <= each.keys()]
        if not rounds:
            return None
        return statistics.median(each[peer].per_s / each[other].per_s for each in rounds)

    def median(self, peer: str, figure: str) -> float:
        """Return the median of a figure, as `per_s`."""
        return statistics.median(getattr(each[peer], figure) for each in self.best)
