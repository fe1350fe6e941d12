"""What is to be said with an advice: what to take, how to measure it, and what it is worth."""

from __future__ import annotations

import math
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, cast

from fcn_trt.advice.calibrated import compare_published
from fcn_trt.advice.candidates import PREFERENCE, Advice, Candidate
from fcn_trt.advice.data_sets import DATA_SETS
from fcn_trt.advice.estimate import EXTRA, RANGE_SHARE, Doubt, estimate, rate_text
from fcn_trt.advice.network import ModelNetwork
from fcn_trt.engine.bundle import NETWORK_NAME
from fcn_trt.spec import Precision, format_size

if TYPE_CHECKING:
    from fcn_trt.advice.own_network import OwnNetwork

__all__ = ["choices", "doubts", "measuring", "range_facts", "remarks"]


def choices(advice: Advice) -> list[str]:
    """What to take, or what comes nearest and what would help."""
    device = advice.device
    said = []
    if not device.supported:
        said.append(f"{device.name} is not supported, estimates all the same: {device.note}")
    if advice.suiting:
        first, plain, largest = advice.suiting[0], advice.uncalibrated, advice.largest
        said.append(f"first choice: {first.describe()}")
        if plain is not None and first.is_quantised:
            said.append(f"without a calibration: {plain.describe()}")
        if largest is not None and largest.pixels > first.pixels:
            said.append(f"largest size that fits: {largest.describe()}")
        return said
    said.append(f"nothing is estimated to reach {advice.rate_fps:g} frames/s")
    if advice.nearest is not None:
        said.append(f"nearest is {advice.nearest.describe()}")
    return said + _remedies(advice)


def doubts(advice: Advice) -> list[str]:
    """Why the first of the candidates may be otherwise, without their full stops."""
    first = advice.candidates[0]
    device, precision = advice.device, first.estimate.precision
    unsure = [figure for figure in (precision, "bandwidth") if figure in device.unsure]
    said = list(first.estimate.doubt.reasons)
    if unsure:
        said.append(f"{' and '.join(unsure)} of {device.name} is derived, not from a data sheet")
    said.append("decoding, copies and drawing take longer than the network alone")
    if advice.published and first.miou is None:
        said.append(
            f"no mIoU is published for {format_size(first.estimate.size)} in {precision}, so "
            "`fcn-trt eval` has to tell how well it labels"
        )
    return said


def measuring(advice: Advice) -> str | None:
    """The command that measures the first of the candidates on the device.

    Returns:
        None where this package builds nothing for the device.
    """
    if not advice.device.supported:
        return None
    first = advice.candidates[0]
    if isinstance(first.network, ModelNetwork):
        return (
            f"fcn-trt bench {first.network.name} --size {format_size(first.estimate.size)} "
            f"--precision {first.estimate.precision} --target tensorrt"
        )
    return _measuring_own(cast("OwnNetwork", first.network), first)


def _measuring_own(network: OwnNetwork, first: Candidate) -> str:
    """From what the file is to its bundle, and how fast that is."""
    precision, size = first.estimate.precision, first.estimate.size
    spec, source = network.spec, network.path
    steps = []
    typed: Precision = "fp32"
    if spec and size == spec.input_size and spec.precision in ("fp32", precision):
        typed = spec.precision
        source = source / NETWORK_NAME if source.is_dir() else source
    else:
        # One of ours has its size and type for good; it begins again with what it was made from.
        made = Path(f"{source.stem}_{format_size(size)}.onnx")
        begin = "MODEL" if spec else quote(str(source))
        steps.append(f"fcn-trt export {begin} --size {format_size(size)} --out {quote(str(made))}")
        source = made
    build = f"fcn-trt build {quote(str(source))} --target tensorrt"
    if typed != precision:
        build += f" --precision {precision}"
        build += " --calibration CACHE" if first.is_quantised else ""
    out = quote(f"{network.path.stem}_{precision}")
    return " && ".join([*steps, f"{build} --out {out}", f"fcn-trt bench {out}"])


def remarks(advice: Advice) -> list[str]:
    """What an estimate is worth, and what else is to be known of the device."""
    device = advice.device
    said = [
        "these are estimates, not measurements: the network alone under TensorRT, one image at a "
        "time; CUDA, TensorRT and the frames need more memory than weights and activations do",
        f"fitted on published measurements: {compare_published().describe()}",
        _range_sentence(_doubts(advice)),
        f"order: {PREFERENCE}",
    ]
    if advice.published:
        measured = advice.published[0].data_set
        mious = ", ".join(
            f"{entry.weights.model} {entry.weights.miou:g} %"
            for entry in sorted(advice.published, key=lambda entry: -entry.weights.miou)
        )
        others = ", ".join(entry.name for entry in DATA_SETS if entry != measured)
        said.append(
            f"mIoU on {measured.measured_on} as published for {measured.published_at} in FP32, and "
            f"for no other size: {mious}; smaller inputs, int8 and fp8 change it, by how much "
            "`fcn-trt eval` measures"
        )
        said.append(
            f"models are those with weights for {measured.measured_on}, since mIoUs on different "
            f"data sets do not compare (--dataset takes {others}; left out are "
            f"{', '.join(advice.left_out)}, of which --layers estimates one)"
        )
    elif advice.left_out:
        said.append(f"it takes no input of {', '.join(advice.left_out)}")
    if device.supported and device.note is not None:
        said.append(f"{device.name}: {device.note}")
    return said


def range_facts(advice: Advice) -> dict[str, Any]:
    """What ranges mean, as JSON has it."""
    found = _doubts(advice)
    return {
        "published_share": RANGE_SHARE,
        "factor_per_doubt": math.exp(EXTRA),
        "factors": {name: entry.factor for name, entry in found.items()},
        "meaning": _range_sentence(found),
    }


def _doubts(advice: Advice) -> dict[Precision, Doubt]:
    return {c.estimate.precision: c.estimate.doubt for c in advice.candidates}


def _range_sentence(found: dict[Precision, Doubt]) -> str:
    factors = ", ".join(f"{name} {entry.factor:.2f}" for name, entry in found.items())
    return (
        f"ranges hold what {100 * RANGE_SHARE:.0f} % of the published TensorRT rows reach, each "
        "device weighing the same (by fits without the whole device, for a device that has none); "
        "each doubt about the GPU's generation, the precision or the network's layers widens them "
        f"by a factor of {math.exp(EXTRA):.2f}, joined as independent errors are, which is judged "
        "and not measured; fits: the low end meets the rate, may fit: the rate lies inside; "
        f"factors up and down: {factors}"
    )


def _remedies(advice: Advice) -> list[str]:
    """What would bring the nearest candidate closer."""
    nearest, device = advice.nearest, advice.device
    if nearest is None:
        return [f"nothing that was looked at fits into the memory of {device.name}"]
    if advice.min_miou is not None:
        return [
            "without --min-miou there are smaller sizes and models, whose mIoU nobody published"
        ]
    found = nearest.estimate
    height, width = found.size
    said = []
    fastest = max(device.tops, key=lambda precision: device.tops[precision])
    if device.tops[fastest] > device.tops[found.precision]:
        other = estimate(device, found.network, precision=fastest)
        said.append(f"in {fastest} it is estimated at {rate_text(other.rate_fps)} frames/s")
    smaller = nearest.network.at((max(1, height // 2), max(1, width // 2)))
    half = estimate(device, smaller, precision=found.precision)
    said.append(
        f"at {format_size(half.size)} it is estimated at {rate_text(half.rate_fps)} frames/s, "
        "with less detail"
    )
    return said
