"""How good a quantised network is, and how good it has to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["MAX_DROP", "MIN_AGREEMENT", "Bound", "Score"]

MAX_DROP = 0.3
"""Points of mean IoU, where there are labels."""
MIN_AGREEMENT = 99.5
"""Percent of the pixels, where there are none."""

SLACK = 1e-9
"""Of what rounding makes of a loss that is exactly the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What was measured of one network.

    Attributes:
        agreement: Percent of the pixels with the label that FP32 gives.
        miou: Mean IoU in percent, over the classes that occur; None where there are no labels.
    """

    agreement: float
    miou: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a quantised network may lose against FP32: the one or the other.

    Attributes:
        max_drop: Points of mean IoU at most. A network whose mean IoU is above FP32's lost nothing.
        min_agreement: Percent of the pixels at least.
    """

    max_drop: float | None = None
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.max_drop, self.min_agreement) if v is not None]
        if len(given) != 1:
            raise ValueError("a bound is either of mean IoU or of agreement")
        if not (math.isfinite(given[0]) and 0 <= given[0] <= 100):
            raise ValueError(f"{given[0]} is not a bound; it lies between 0 and 100")

    def holds(self, found: Score, reference: Score) -> bool:
        """Whether a network is good enough.

        Args:
            found: Of the network.
            reference: Of FP32.
        """
        if self.min_agreement is not None:
            return found.agreement >= self.min_agreement - SLACK
        if found.miou is None or reference.miou is None or self.max_drop is None:
            raise ValueError("a bound of mean IoU needs labels")
        return reference.miou - found.miou <= self.max_drop + SLACK

    def describe(self) -> str:
        """The bound in words."""
        if self.min_agreement is not None:
            return f"at least {self.min_agreement:g} % of the pixels labelled as in FP32"
        return f"at most {self.max_drop:g} points of mean IoU less than FP32"
