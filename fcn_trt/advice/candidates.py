"""Which model, size and precision suit a device and a frame rate, or how a user's network does.

They are ranked by what can be had: a mIoU counts where it was published for that very size, and a
network that nobody measured at a size is none the better for what it reaches at another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from fcn_trt.advice.data_sets import DEFAULT_DATA_SET, DataSet, data_set
from fcn_trt.advice.devices import Device
from fcn_trt.advice.estimate import Estimate, estimate
from fcn_trt.advice.network import CountedNetwork, ModelNetwork, Network
from fcn_trt.errors import EngineError
from fcn_trt.model.architecture import ARCHITECTURES
from fcn_trt.model.weights import PublishedWeights, published_for
from fcn_trt.spec import LADDER, QUANTISED, Precision, Size, format_size

if TYPE_CHECKING:
    from fcn_trt.advice.own_network import OwnNetwork

__all__ = [
    "PREFERENCE",
    "REACHES",
    "Advice",
    "Candidate",
    "Published",
    "Reach",
    "Verdict",
    "advise",
    "advise_on",
]

Reach: TypeAlias = Literal["fits", "may fit", "too slow", "too large"]
"""In the order of preference: the whole range reaches the rate, its high end does, nothing of it
does, or the memory of the device does not hold the network."""

REACHES: tuple[Reach, ...] = get_args(Reach)

Verdict: TypeAlias = Reach | Literal["not supported"]
"""The reach, unless this package builds nothing for the device."""

PREFERENCE = (
    "what fits before what may fit, then your network's own size, then the larger size, then the "
    "better mIoU where one is published for that size and a type that is not quantised, then the "
    "network with more arithmetic, then types that need no calibration, then the faster"
)
"""The order of the candidates, in words."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is published of a model on a data set.

    Attributes:
        weights: Those of the best mIoU.
        data_set: The data set.
    """

    weights: PublishedWeights
    data_set: DataSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network at a size and precision.

    Attributes:
        estimate: What it is estimated to do.
        network: What is estimated, at any size.
        reach: Whether it is fast and small enough, were it built.
        published: What is published of it; None of a user's own network.
    """

    estimate: Estimate
    network: Network
    reach: Reach
    published: Published | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether it suits."""
        return self.reach if self.estimate.device.supported else "not supported"

    @property
    def miou(self) -> float | None:
        """Published mean IoU in percent; None where none is published for this size and type.

        It is published in FP32, which FP16 and BF16 label as; INT8 and FP8 change it.
        """
        found = self.published
        if found is None or self.is_quantised:
            return None
        return found.weights.miou if found.data_set.is_published_at(self.estimate.size) else None

    @property
    def pixels(self) -> int:
        """Of its input."""
        return self.estimate.size[0] * self.estimate.size[1]

    @property
    def is_quantised(self) -> bool:
        """Whether it needs a calibration."""
        return self.estimate.precision in QUANTISED

    def describe(self) -> str:
        """The candidate in one sentence, without its full stop."""
        said = self.estimate.describe()
        if self.published is None or self.miou is None:
            return said
        return f"{said}; mIoU {self.miou:g} % on {self.published.data_set.measured_on}, published"

    def to_dict(self) -> dict[str, Any]:
        """The candidate as JSON has it."""
        return self.estimate.to_dict() | {
            "verdict": self.verdict,
            "reach": self.reach,
            "miou": self.miou,
            "gmac": self.estimate.network.macs / 1e9,
            "needs_calibration": self.is_quantised,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What suits a device.

    Attributes:
        device: The device.
        rate_fps: Frames per second asked for.
        candidates: Best first; see PREFERENCE.
        published: What is published of the models; nothing where a user's network is advised on.
        min_miou: Published mean IoU in percent asked for; None if none was.
        left_out: Models without weights on the data set, or sizes that a user's network does not
            take.
    """

    device: Device
    rate_fps: float
    candidates: tuple[Candidate, ...]
    published: tuple[Published, ...] = ()
    min_miou: float | None = None
    left_out: tuple[str, ...] = ()

    @property
    def suiting(self) -> tuple[Candidate, ...]:
        """Those whose estimates fit or may fit."""
        return tuple(c for c in self.candidates if c.reach in ("fits", "may fit"))

    @property
    def uncalibrated(self) -> Candidate | None:
        """The best of those that suit and need no calibration."""
        return next((c for c in self.suiting if not c.is_quantised), None)

    @property
    def largest(self) -> Candidate | None:
        """The best of those that fit at the largest size that any fits at."""
        fitting = [c for c in self.candidates if c.reach == "fits"]
        return max(fitting, key=lambda c: c.pixels, default=None)

    @property
    def shown(self) -> tuple[Candidate, ...]:
        """Those to look at: the best of each model and size; of a user's network all."""
        if not self.published:
            return self.candidates
        best: dict[tuple[str, Size], Candidate] = {}
        for candidate in self.suiting or self.candidates:
            best.setdefault((candidate.network.name, candidate.estimate.size), candidate)
        return tuple(best.values())

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
        min_miou: Published mean IoU on it in percent that is needed, which leaves the sizes and
            types that it is published for; None takes all.

    Raises:
        ValueError: the device does not compute in a precision, the data set is not known, or no
            model publishes that mIoU on it, or none at these sizes and in these precisions.
    """
    measured = data_set(dataset)
    names = [name for name in ARCHITECTURES if not name.endswith("_769x769")]
    weights = (
        [found for found in published_for(name) if found.measured_on == measured.measured_on]
        for name in names
    )
    published = tuple(Published(found[0], measured) for found in weights if found)
    candidates = [
        candidate
        for entry in published
        for network in [ModelNetwork(ARCHITECTURES[entry.weights.model], entry.weights.labels)]
        for candidate in _judged(
            device,
            network,
            map(network.at, sizes),
            rate_fps=rate_fps,
            precisions=precisions,
            published=entry,
        )
    ]
    if min_miou is not None:
        candidates = _good_enough(candidates, published, min_miou=min_miou)
    return Advice(
        device=device,
        rate_fps=rate_fps,
        candidates=tuple(sorted(candidates, key=_preference)),
        published=published,
        min_miou=min_miou,
        left_out=tuple(name for name in names if name not in {p.weights.model for p in published}),
    )


def advise_on(
    network: OwnNetwork,
    device: Device,
    *,
    rate_fps: float,
    sizes: Sequence[Size] = (),
    precisions: Sequence[Precision] | None = None,
) -> Advice:
    """Judge a user's own network at every size and precision.

    Args:
        rate_fps: Frames per second that are needed.
        sizes: (height, width) of the inputs to look at; none takes its own and `LADDER`, and leaves
            out of these what it does not take.
        precisions: To look at; None takes all that the device computes in.

    Raises:
        EngineError: it takes no input of a size.
        ValueError: the device does not compute in a precision.
    """
    own = () if network.size is None else (network.size,)
    further = [] if sizes else [size for size in LADDER if size not in own]
    counted = {size: _at_or_none(network, size) for size in further}
    candidates = _judged(
        device,
        network,
        [*map(network.at, sizes or own), *filter(None, counted.values())],
        rate_fps=rate_fps,
        precisions=precisions,
    )
    return Advice(
        device=device,
        rate_fps=rate_fps,
        candidates=tuple(sorted(candidates, key=lambda c: _preference(c, network.size))),
        left_out=tuple(format_size(size) for size, found in counted.items() if found is None),
    )


def _at_or_none(network: Network, size: Size) -> CountedNetwork | None:
    """A network at a size that nobody asked for; None where it does not take it."""
    try:
        return network.at(size)
    except EngineError:
        return None


def _judged(
    device: Device,
    network: Network,
    counted: Iterable[CountedNetwork],
    *,
    rate_fps: float,
    precisions: Sequence[Precision] | None,
    published: Published | None = None,
) -> list[Candidate]:
    asked = tuple(precisions or cast("tuple[Precision, ...]", tuple(device.tops)))
    found = (
        estimate(device, at_size, precision=precision) for at_size in counted for precision in asked
    )
    return [
        Candidate(
            estimate=entry, network=network, reach=_reach(entry, rate_fps), published=published
        )
        for entry in found
    ]


def _good_enough(
    candidates: Sequence[Candidate], published: Sequence[Published], *, min_miou: float
) -> list[Candidate]:
    """Those whose mIoU is published and reaches this."""
    kept = [c for c in candidates if c.miou is not None and c.miou >= min_miou]
    if kept:
        return kept
    top = max(published, key=lambda entry: entry.weights.miou)
    if top.weights.miou < min_miou:
        raise ValueError(
            f"no model publishes a mean IoU of {min_miou:g} % on {top.data_set.measured_on}; the "
            f"best is {top.weights.model} with {top.weights.miou:g} %"
        )
    raise ValueError(
        f"mean IoUs on {top.data_set.measured_on} are published at {top.data_set.published_at} and "
        "for types that are not quantised, of which none was asked for; ask for those, or for no "
        "mean IoU"
    )


def _reach(found: Estimate, rate_fps: float) -> Reach:
    if not found.fits_memory:
        return "too large"
    if found.low_fps >= rate_fps:
        return "fits"
    return "may fit" if found.high_fps >= rate_fps else "too slow"


def _preference(candidate: Candidate, own_size: Size | None = None) -> tuple[float, ...]:
    found = candidate.estimate
    return (
        REACHES.index(candidate.reach),
        found.size != own_size,
        -candidate.pixels,
        -(candidate.miou or 0.0),
        -found.network.macs,
        candidate.is_quantised,
        -found.rate_fps,
    )
