"""Which model, size and precision suit a device and a frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from fcn_trt.advice.data_sets import DEFAULT_DATA_SET, DataSet, data_set
from fcn_trt.advice.devices import Device
from fcn_trt.advice.estimate import Estimate, estimate
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.weights import PublishedWeights, published_for
from fcn_trt.spec import LADDER, QUANTISED, Precision, Size

__all__ = ["PREFERENCE", "REACHES", "Advice", "Candidate", "Reach", "Verdict", "advise"]

Reach: TypeAlias = Literal["fits", "may fit", "too slow", "too large"]
"""In the order of preference: the whole range reaches the rate, its high end does, nothing of it
does, or the memory of the device does not hold the network."""

REACHES: tuple[Reach, ...] = get_args(Reach)

Verdict: TypeAlias = Reach | Literal["not supported"]
"""The reach, unless this package builds nothing for the device."""

PREFERENCE = (
    "what fits before what may fit, then the best published mIoU, then the larger size, then the "
    "faster"
)
"""The order of the candidates, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model at a size and precision.

    Attributes:
        estimate: What it is estimated to do.
        weights: Its published weights of the best mIoU on the data set.
        data_set: The data set.
        reach: Whether it is fast and small enough, were it built.
    """

    estimate: Estimate
    weights: PublishedWeights
    data_set: DataSet
    reach: Reach

    @property
    def verdict(self) -> Verdict:
        """Whether it suits."""
        return self.reach if self.estimate.device.supported else "not supported"

    @property
    def cautions(self) -> tuple[str, ...]:
        """Why the published mIoU is not to be expected, in sentences without their full stops."""
        size, precision = self.estimate.size, self.estimate.precision
        found = []
        if min(size) < self.data_set.short_side_px:
            found.append(f"expect less at {size[0]}x{size[1]}")
        if precision in QUANTISED:
            found.append(f"{precision} changes it")
        return tuple(found)

    def describe(self) -> str:
        """The candidate in one sentence, without its full stop."""
        cautions = f" ({', '.join(self.cautions)})" if self.cautions else ""
        return (
            f"{self.estimate.describe()}; mIoU {self.weights.miou:g} % on "
            f"{self.data_set.measured_on}, published at {self.data_set.published_at} in FP32"
            f"{cautions}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON has it."""
        return self.estimate.to_dict() | {
            "verdict": self.verdict,
            "reach": self.reach,
            "miou": self.weights.miou,
            "measured_on": self.data_set.measured_on,
            "published_at": self.data_set.published_at,
            "published_precision": "fp32",
            "miou_cautions": self.cautions,
            "weights": self.weights.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What suits a device.

    Attributes:
        device: The device.
        rate_fps: Frames per second asked for.
        data_set: What the mIoUs were measured on.
        min_miou: Published mean IoU in percent asked for; None if none was.
        candidates: Best first; see PREFERENCE.
        left_out: Models without published weights on the data set.
    """

    device: Device
    rate_fps: float
    data_set: DataSet
    min_miou: float | None
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]

    @property
    def suiting(self) -> tuple[Candidate, ...]:
        """Those whose estimates fit or may fit."""
        return tuple(c for c in self.candidates if c.reach in ("fits", "may fit"))

    @property
    def largest(self) -> Candidate | None:
        """The best of those that fit at the largest size that any fits at."""
        fitting = [c for c in self.candidates if c.reach == "fits"]
        return max(fitting, key=lambda c: c.estimate.size[0] * c.estimate.size[1], default=None)

    @property
    def nearest(self) -> Candidate | None:
        """Of those in memory, the one that comes nearest to the rate."""
        held = [c for c in self.candidates if c.reach != "too large"]
        return max(held, key=lambda c: c.estimate.rate_fps, default=None)


def advise(
    device: Device,
    *,
    rate_fps: float,
    sizes: Sequence[Size] = LADDER,
    precisions: Sequence[Precision] | None = None,
    dataset: str = DEFAULT_DATA_SET,
    min_miou: float | None = None,
) -> Advice:
    """Judge every model with weights for a data set at every size and precision.

    The twins for 769x769 windows are left out: the same network at the same cost.

    Args:
        rate_fps: Frames per second that are needed.
        sizes: (height, width) of the inputs to look at.
        precisions: To look at; None takes all that the device computes in.
        dataset: Name of the data set: mIoUs on different ones do not compare.
        min_miou: Published mean IoU on it in percent that is needed; None takes every model.

    Raises:
        ValueError: the device does not compute in a precision, the data set is not known, or no
            model publishes that mIoU on it.
    """
    measured = data_set(dataset)
    names = [name for name in ARCHITECTURES if not name.endswith("_769x769")]
    published = (
        [weights for weights in published_for(name) if weights.measured_on == measured.measured_on]
        for name in names
    )
    best = [weights[0] for weights in published if weights]
    asked = tuple(precisions or cast("tuple[Precision, ...]", tuple(device.tops)))
    estimates = [
        (
            weights,
            estimate(
                device,
                ARCHITECTURES[weights.model],
                size=size,
                precision=precision,
                labels=weights.labels,
            ),
        )
        for weights in _good_enough(best, measured, min_miou=min_miou)
        for size in sizes
        for precision in asked
    ]
    candidates = [
        Candidate(estimate=found, weights=weights, data_set=measured, reach=_reach(found, rate_fps))
        for weights, found in estimates
    ]
    return Advice(
        device=device,
        rate_fps=rate_fps,
        data_set=measured,
        min_miou=min_miou,
        candidates=tuple(sorted(candidates, key=_preference)),
        left_out=tuple(name for name in names if name not in {w.model for w in best}),
    )


def _good_enough(
    best: Sequence[PublishedWeights], measured: DataSet, *, min_miou: float | None
) -> list[PublishedWeights]:
    kept = [weights for weights in best if min_miou is None or weights.miou >= min_miou]
    if not kept:
        top = max(best, key=lambda weights: weights.miou)
        raise ValueError(
            f"no model publishes a mean IoU of {min_miou:g} % on {measured.measured_on}; the best "
            f"is {top.model} with {top.miou:g} %"
        )
    return kept


def _reach(found: Estimate, rate_fps: float) -> Reach:
    if not found.fits_memory:
        return "too large"
    if found.low_fps >= rate_fps:
        return "fits"
    return "may fit" if found.high_fps >= rate_fps else "too slow"


def _preference(candidate: Candidate) -> tuple[float, ...]:
    found = candidate.estimate
    area = found.size[0] * found.size[1]
    return REACHES.index(candidate.reach), -candidate.weights.miou, -area, -found.rate_fps
