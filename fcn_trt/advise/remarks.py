"""What is to be said with an advice: what to take, and what an estimate is worth."""

from __future__ import annotations

from fcn_trt.advise.advice import Advice
from fcn_trt.advise.calibrated import compare_published

__all__ = ["choices", "remarks"]


def choices(advice: Advice) -> list[str]:
    """What to take, or what comes nearest and what would help."""
    if advice.suiting:
        first, largest = advice.suiting[0], advice.largest
        chosen = [f"first choice: {first.describe()}"]
        if largest is not None and largest.estimate.size != first.estimate.size:
            chosen.append(f"largest size that fits: {largest.describe()}")
        return chosen
    said = [f"nothing is estimated to reach {advice.rate_fps:g} frames/s"]
    if advice.nearest is not None:
        said.append(f"nearest is {advice.nearest.describe()}")
    return said + list(advice.remedies)


def remarks(advice: Advice) -> list[str]:
    """What an estimate is worth, and what else is to be known of the device."""
    doubts = {c.estimate.precision: c.estimate.doubt for c in advice.candidates}
    reasons = dict.fromkeys(reason for entry in doubts.values() for reason in entry.reasons)
    ranges = (f"{name} a factor of {entry.factor:.2f}" for name, entry in doubts.items())
    said = [
        "these are estimates, not measurements: the network alone under TensorRT, one image at a "
        "time; decoding of the video, copies and drawing come on top",
        f"fitted on published measurements: {compare_published().describe()}",
        *(f"doubt: {reason}" for reason in reasons),
        f"ranges, up and down: {', '.join(ranges)}",
        "mIoU is what the authors publish for their own size and data set, not for the size asked "
        "for; figures on different data sets do not compare",
        "memory is that of weights and activations; CUDA, TensorRT and the frames need more",
    ]
    if advice.device.unsure:
        said.append(f"derived or unsure for this device: {', '.join(advice.device.unsure)}")
    if advice.device.note is not None:
        said.append(f"{advice.device.name}: {advice.device.note}")
    return said
