"""What is asked of a network, and what is found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fcn_trt.calibration.amax import Method
from fcn_trt.sensitivity.score import Bound, Score
from fcn_trt.spec import FloatPrecision, QuantisedPrecision

__all__ = ["Effect", "Point", "Question", "Sensitivity"]


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
