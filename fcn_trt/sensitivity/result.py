"""What is asked of a network, and what is found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from fcn_trt.calibration.amax import Method
from fcn_trt.spec import FloatPrecision, QuantisedPrecision

__all__ = [
    "MAX_DROP",
    "MIN_AGREEMENT",
    "Bound",
    "Effect",
    "Point",
    "Question",
    "Score",
    "Sensitivity",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a network.

    Attributes:
        precision: What convolutions are quantised to.
        method: How ranges are chosen; None takes the calibration's own.
        float_precision: What is not quantised computes in.
        alone: Quantise each convolution alone, instead of leaving each in float.
        bound: What the quantised network may lose.
    """

    precision: QuantisedPrecision
    method: Method | None = None
    float_precision: FloatPrecision = "fp32"
    alone: bool = False
    bound: Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one convolution changes.

    Attributes:
        name: Of its ONNX node.
        gmac: 1e9 multiply-accumulates of one inference.
        share: Its percentage of the GMAC of all convolutions.
        score: With this one in float and all others quantised, or with this one alone quantised.
        gain: Points of agreement: more than with all quantised, or less than FP32 if it was alone.
    """

    name: str
    gmac: float
    share: float
    score: Score
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One choice of convolutions that are kept in float.

    Attributes:
        kept: Their names.
        quantised_share: Percentage of the GMAC in all others.
        score: Of this network.
    """

    kept: tuple[str, ...]
    quantised_share: float
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What each convolution costs, and the smallest set to keep in float that was found.

    Attributes:
        model: Name of the architecture.
        images: How many were measured.
        question: What was asked.
        reference: Of FP32.
        effects: By gain, the largest first.
        points: All quantised, then longer and longer beginnings of `effects` in float, those that
            were measured.
        chosen: The smallest set that was found, in the network's order; None where the bound
            holds only if nothing is quantised, or not even then.
    """

    model: str
    images: int
    question: Question
    reference: Score
    effects: tuple[Effect, ...]
    points: tuple[Point, ...]
    chosen: Point | None

    def to_dict(self) -> dict[str, Any]:
        """What JSON has of it."""
        return asdict(self)


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
        """Whether a network is good enough; `reference` is of FP32."""
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
