"""What is to be said with an advice: what to take, and what an estimate is worth."""

from __future__ import annotations

import math
from typing import Any

from fcn_trt.advice.calibrated import compare_published
from fcn_trt.advice.candidates import PREFERENCE, Advice
from fcn_trt.advice.data_sets import DATA_SETS
from fcn_trt.advice.estimate import EXTRA, RANGE_SHARE, Doubt, estimate, rate_text
from fcn_trt.spec import Precision

__all__ = ["choices", "range_facts", "remarks"]


def choices(advice: Advice) -> list[str]:
    """What to take, or what comes nearest and what would help."""
    device = advice.device
    said = []
    if not device.supported:
        said.append(f"{device.name} is not supported, estimates all the same: {device.note}")
    if advice.suiting:
        first, largest = advice.suiting[0], advice.largest
        said.append(f"first choice: {first.describe()}")
        if largest is not None and largest.estimate.size != first.estimate.size:
            said.append(f"largest size that fits: {largest.describe()}")
        return said
    said.append(f"nothing is estimated to reach {advice.rate_fps:g} frames/s")
    if advice.nearest is not None:
        said.append(f"nearest is {advice.nearest.describe()}")
    return said + _remedies(advice)


def remarks(advice: Advice) -> list[str]:
    """What an estimate is worth, and what else is to be known of the device."""
    device, measured = advice.device, advice.data_set
    said = [
        "these are estimates, not measurements: the network alone under TensorRT, one image at a "
        "time; decoding of the video, copies and drawing take longer, and CUDA, TensorRT and the "
        "frames need more memory than the weights and activations in the table",
        f"fitted on published measurements: {compare_published().describe()}",
        _range_sentence(_doubts(advice)),
    ]
    reasons = [reason for entry in _doubts(advice).values() for reason in entry.reasons]
    if device.unsure:
        reasons.append(f"derived or unsure for this device: {', '.join(device.unsure)}")
    if reasons:
        said.append(f"doubts: {'; '.join(dict.fromkeys(reasons))}")
    said.append(
        f"mIoU is what the authors publish for FP32 at {measured.published_at}: at smaller sizes "
        "it is lower, and int8 and fp8 change it; `fcn-trt eval` measures it"
    )
    others = ", ".join(entry.name for entry in DATA_SETS if entry != measured)
    said.append(
        f"order: {PREFERENCE}; only models with weights for {measured.measured_on}, since mIoUs "
        f"on different data sets do not compare (--dataset takes {others}; left out are "
        f"{', '.join(advice.left_out)}, of which --layers estimates one)"
    )
    if device.supported and device.note is not None:
        said.append(f"{device.name}: {device.note}")
    return said


def range_facts(advice: Advice) -> dict[str, Any]:
    """What ranges mean, as JSON has it."""
    doubts = _doubts(advice)
    return {
        "published_share": RANGE_SHARE,
        "factor_per_doubt": math.exp(EXTRA),
        "factors": {name: entry.factor for name, entry in doubts.items()},
        "meaning": _range_sentence(doubts),
    }


def _doubts(advice: Advice) -> dict[Precision, Doubt]:
    return {c.estimate.precision: c.estimate.doubt for c in advice.candidates}


def _range_sentence(doubts: dict[Precision, Doubt]) -> str:
    factors = ", ".join(f"{name} {entry.factor:.2f}" for name, entry in doubts.items())
    return (
        f"ranges hold what {100 * RANGE_SHARE:.0f} % of the published TensorRT rows reach, each "
        "device weighing the same (by fits without the whole device, for a device that has none); "
        "each doubt about the GPU's generation or the precision widens them by a factor of "
        f"{math.exp(EXTRA):.2f}, joined as independent errors are, which is judged and not "
        "measured; fits: the low end meets the rate, may fit: the rate lies inside; factors up "
        f"and down: {factors}"
    )


def _remedies(advice: Advice) -> list[str]:
    """What would bring the nearest candidate closer."""
    nearest, device = advice.nearest, advice.device
    if nearest is None:
        return [f"nothing that was looked at fits into the memory of {device.name}"]
    found, labels = nearest.estimate, nearest.weights.labels
    height, width = found.size
    said = []
    fastest = max(device.tops, key=lambda precision: device.tops[precision])
    if device.tops[fastest] > device.tops[found.precision]:
        other = estimate(device, found.arch, size=found.size, precision=fastest, labels=labels)
        said.append(f"in {fastest} it is estimated at {rate_text(other.rate_fps)} frames/s")
    half = estimate(
        device,
        found.arch,
        size=(max(1, height // 2), max(1, width // 2)),
        precision=found.precision,
        labels=labels,
    )
    said.append(
        f"at {half.size[0]}x{half.size[1]} it is estimated at {rate_text(half.rate_fps)} "
        "frames/s, with less detail"
    )
    if advice.min_miou is not None:
        said.append("without --min-miou there are models that cost less")
    return said
