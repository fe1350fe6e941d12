"""Which model, size and precision suit a device and a frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from fcn_trt.advise.devices import Device
from fcn_trt.advise.estimate import Estimate, estimate, rate_text
from fcn_trt.export.architecture import ARCHITECTURES, Architecture
from fcn_trt.export.weights import PublishedWeights, published_for
from fcn_trt.spec import Precision, Size

__all__ = ["LADDER", "PREFERENCE", "Advice", "Candidate", "Verdict", "advise"]

LADDER: tuple[Size, ...] = ((256, 512), (512, 1024), (1024, 2048))
"""The sizes that are looked at where none is asked for."""

Verdict: TypeAlias = Literal["fits", "may fit", "too slow", "too large"]
"""In the order of preference: the whole range reaches the rate, its high end does, nothing of it
does, or the memory of the device does not hold the network."""

VERDICTS: tuple[Verdict, ...] = ("fits", "may fit", "too slow", "too large")

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
        weights: The published weights of the best mIoU; None where none are published.
        verdict: Whether it suits.
    """

    estimate: Estimate
    weights: PublishedWeights | None
    verdict: Verdict

    def describe(self) -> str:
        """The candidate in one sentence, without its full stop."""
        said = self.estimate.describe()
        if self.weights is None:
            return said
        return f"{said}; mIoU {self.weights.miou:g} % on {self.weights.measured_on}"

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON has it."""
        weights = self.weights
        return self.estimate.to_dict() | {
            "verdict": self.verdict,
            "miou": None if weights is None else weights.miou,
            "measured_on": None if weights is None else weights.measured_on,
            "weights": None if weights is None else weights.name,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What suits a device.

    Attributes:
        device: The device.
        rate_fps: Frames per second asked for.
        candidates: Best first; see PREFERENCE.
        remedies: What would help, in sentences, where nothing fits.
    """

    device: Device
    rate_fps: float
    candidates: tuple[Candidate, ...]
    remedies: tuple[str, ...]

    @property
    def suiting(self) -> tuple[Candidate, ...]:
        """Those that fit or may fit."""
        return tuple(c for c in self.candidates if c.verdict in ("fits", "may fit"))

    @property
    def largest(self) -> Candidate | None:
        """The best of those that fit at the largest size that any fits at."""
        fitting = [c for c in self.candidates if c.verdict == "fits"]
        return max(fitting, key=lambda c: c.estimate.size[0] * c.estimate.size[1], default=None)

    @property
    def nearest(self) -> Candidate | None:
        """Of those in memory, the one that comes nearest to the rate."""
        held = [c for c in self.candidates if c.verdict != "too large"]
        return max(held, key=lambda c: c.estimate.rate_fps, default=None)


def advise(
    device: Device,
    *,
    rate_fps: float,
    sizes: Sequence[Size] = LADDER,
    precisions: Sequence[Precision] | None = None,
    min_miou: float | None = None,
) -> Advice:
    """Judge every model at every size and precision.

    The twins for 769x769 windows are left out: the same network at the same cost.

    Args:
        device: The device.
        rate_fps: Frames per second that are needed.
        sizes: (height, width) of the inputs to look at.
        precisions: To look at; None takes all that the device computes in.
        min_miou: Published mean IoU in percent that is needed; None takes models without one, too.

    Raises:
        ValueError: the device does not compute in a precision, or no model publishes that mIoU.
    """
    best = {
        arch.name: next(iter(published_for(arch.name)), None)
        for arch in ARCHITECTURES.values()
        if not arch.name.endswith("_769x769")
    }
    chosen = {
        name: weights
        for name, weights in best.items()
        if min_miou is None or (weights is not None and weights.miou >= min_miou)
    }
    if not chosen:
        top = max((w for w in best.values() if w is not None), key=lambda w: w.miou)
        raise ValueError(
            f"no model publishes a mean IoU of {min_miou:g} %; the best is {top.model} with "
            f"{top.miou:g} % on {top.measured_on}"
        )
    asked = tuple(precisions or cast("tuple[Precision, ...]", tuple(device.tops)))
    candidates = [
        _candidate(device, ARCHITECTURES[name], size, precision, weights, rate_fps)
        for name, weights in chosen.items()
        for size in sizes
        for precision in asked
    ]
    candidates.sort(key=_preference)
    found = Advice(device=device, rate_fps=rate_fps, candidates=tuple(candidates), remedies=())
    if found.suiting:
        return found
    return Advice(
        device=device,
        rate_fps=rate_fps,
        candidates=found.candidates,
        remedies=_remedies(found, min_miou=min_miou),
    )


def _candidate(
    device: Device,
    arch: Architecture,
    size: Size,
    precision: Precision,
    weights: PublishedWeights | None,
    rate_fps: float,
) -> Candidate:
    found = estimate(device, arch, size=size, precision=precision)
    verdict: Verdict
    if not found.fits_memory:
        verdict = "too large"
    elif found.low_fps >= rate_fps:
        verdict = "fits"
    elif found.high_fps >= rate_fps:
        verdict = "may fit"
    else:
        verdict = "too slow"
    return Candidate(estimate=found, weights=weights, verdict=verdict)


def _preference(candidate: Candidate) -> tuple[float, ...]:
    found = candidate.estimate
    miou = -1.0 if candidate.weights is None else candidate.weights.miou
    area = found.size[0] * found.size[1]
    return VERDICTS.index(candidate.verdict), -miou, -area, -found.rate_fps


def _remedies(advice: Advice, *, min_miou: float | None) -> tuple[str, ...]:
    """What would bring the nearest candidate closer."""
    nearest = advice.nearest
    if nearest is None:
        return (f"nothing that was looked at fits into the memory of {advice.device.name}",)
    found, device = nearest.estimate, advice.device
    height, width = found.size
    remedies = []
    fastest = max(device.tops, key=lambda precision: device.tops[precision])
    if device.tops[fastest] > device.tops[found.precision]:
        other = estimate(device, found.arch, size=found.size, precision=fastest)
        remedies.append(f"in {fastest} it is estimated at {rate_text(other.rate_fps)} frames/s")
    half = estimate(
        device,
        found.arch,
        size=(max(1, height // 2), max(1, width // 2)),
        precision=found.precision,
    )
    remedies.append(
        f"at {half.size[0]}x{half.size[1]} it is estimated at {rate_text(half.rate_fps)} "
        "frames/s, with less detail"
    )
    if min_miou is not None:
        remedies.append("without --min-miou there are models that cost less")
    return tuple(remedies)
