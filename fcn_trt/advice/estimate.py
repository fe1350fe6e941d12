"""An estimate of a network on a device, with the range that its makers' own errors suggest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from fcn_trt.advice.calibrated import RowEstimate, compare_published, fitted
from fcn_trt.advice.devices import Device
from fcn_trt.advice.devices import device as device_of
from fcn_trt.advice.roofline import ELEMENT_BYTES, LayerTime, Run, layer_times, work
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import Architecture
from fcn_trt.model.layers import Layer, layers
from fcn_trt.model.profile import default_labels
from fcn_trt.spec import Precision, Size

__all__ = [
    "EXTRA",
    "RANGE_SHARE",
    "Doubt",
    "Estimate",
    "doubt",
    "estimate",
    "peak_activations",
    "rate_text",
]

RANGE_SHARE = 0.8
"""Share of the published rows whose rate lies inside the range of its estimate."""

EXTRA = 0.2
"""Logarithm by which each further reason to doubt widens a range: judged, not measured."""

FEW_ROWS = 5
"""Rows of a precision below which it is doubted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """How far off an estimate may be, and why.

    Attributes:
        factor: The range goes from the estimate over this to the estimate times this.
        reasons: Sentences without their full stop.
    """

    factor: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a network is estimated to do on a device; the network alone, one image at a time.

    Attributes:
        device: Where.
        arch: The network.
        size: (height, width) of the input.
        precision: What its convolutions compute in.
        layers: Every layer, in the order of the data.
        doubt: How far off it may be.
        memory_bytes: Weights and activations at their most; TensorRT's and CUDA's own come on top.
    """

    device: Device
    arch: Architecture
    size: Size
    precision: Precision
    layers: tuple[LayerTime, ...]
    doubt: Doubt
    memory_bytes: int

    @property
    def latency_ms(self) -> float:
        """Estimated time of one image."""
        return sum(layer.total_ms for layer in self.layers)

    @property
    def rate_fps(self) -> float:
        """Estimated images per second."""
        return 1e3 / self.latency_ms

    @property
    def low_fps(self) -> float:
        """Low end of the range."""
        return self.rate_fps / self.doubt.factor

    @property
    def high_fps(self) -> float:
        """High end of the range."""
        return self.rate_fps * self.doubt.factor

    def describe(self) -> str:
        """The estimate in one sentence, without its full stop."""
        low, rate, high = map(rate_text, (self.low_fps, self.rate_fps, self.high_fps))
        return (
            f"{self.arch.name} at {self.size[0]}x{self.size[1]} in {self.precision}: estimated "
            f"{rate} frames/s ({low} to {high})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON has it, without its layers."""
        return {
            "model": self.arch.name,
            "size": self.size,
            "precision": self.precision,
            "estimated_fps": self.rate_fps,
            "low_fps": self.low_fps,
            "high_fps": self.high_fps,
            "estimated_ms": self.latency_ms,
            "range_factor": self.doubt.factor,
            "memory_bytes": self.memory_bytes,
            "doubts": self.doubt.reasons,
        }

    @property
    def fits_memory(self) -> bool:
        """Whether the device has that much memory at all."""
        return self.memory_bytes <= self.device.memory_gb * 1e9


def estimate(
    device: Device,
    arch: Architecture,
    *,
    size: Size,
    precision: Precision,
    labels: str | None = None,
) -> Estimate:
    """Estimate a network that TensorRT runs on a device.

    Args:
        size: (height, width) of the input in pixels.
        precision: One that the device computes in.
        labels: Name of the label set that it predicts; None takes its family's usual one.

    Raises:
        ValueError: the device has no peak of this precision.
    """
    if precision not in device.tops:
        raise ValueError(
            f"{device.name} does not compute in {precision}, only in {', '.join(device.tops)}"
        )
    classes = len(label_set(labels or default_labels(arch)).classes)
    counted = layers(arch, size=size, num_classes=classes)
    parameters = sum(layer.parameters for layer in counted)
    run = Run(
        device=device,
        stack="tensorrt",
        precision=precision,
        work=work(counted, stack="tensorrt", precision=precision),
    )
    return Estimate(
        device=device,
        arch=arch,
        size=size,
        precision=precision,
        layers=layer_times(run, fitted()),
        doubt=doubt(device, precision),
        memory_bytes=ELEMENT_BYTES[precision] * (parameters + peak_activations(counted)),
    )


def doubt(device: Device, precision: Precision) -> Doubt:
    """How far off an estimate for a device and precision may be.

    The range holds four fifths of what is published: of the errors on rows left out one by one
    where rows of the device are published, else of the errors on devices left out as a whole, each
    device weighing the same.
    """
    rows = compare_published().tensorrt
    own = {row.measurement.device for row in rows}
    is_measured = device.name in own
    spread = _spread(rows, without_device=not is_measured)
    reasons = []
    if not is_measured:
        reasons.append(f"no TensorRT measurement of an FCN on {device.name} is published")
    extras = 0
    if device.compute_capability not in {device_of(name).compute_capability for name in own}:
        extras += 1
        reasons.append(
            f"no TensorRT measurement of an FCN is published for any GPU of compute capability "
            f"{device.compute_capability}"
        )
    count = sum(row.measurement.precision == precision for row in rows)
    if count < FEW_ROWS:
        extras += 1
        reasons.append(f"{count} of the {len(rows)} published TensorRT rows are {precision}")
    return Doubt(factor=math.exp(math.hypot(spread, EXTRA * extras**0.5)), reasons=tuple(reasons))


def _spread(rows: Sequence[RowEstimate], *, without_device: bool) -> float:
    """Logarithm of the ratio that RANGE_SHARE of the rows stay within; devices weigh the same."""
    names = [row.measurement.device for row in rows]
    errors = np.array(
        [abs(math.log(row.ratio_without_device if without_device else row.ratio)) for row in rows]
    )
    order = np.argsort(errors)
    weights = np.array([1 / names.count(name) for name in names])[order]
    reached = np.cumsum(weights) / weights.sum()
    return float(errors[order][np.searchsorted(reached, RANGE_SHARE)])


def rate_text(rate_fps: float) -> str:
    """A rate with two digits, or all before the decimal point: an estimate is worth no more."""
    return f"{rate_fps:.0f}" if rate_fps >= 10 else f"{rate_fps:.2g}"


def peak_activations(counted: Sequence[Layer]) -> int:
    """The most activations that are alive at once, in elements.

    What a layer reads and writes is alive, and so is what a later layer still needs: the input of
    a residual block until its addition, and that of a head until its concatenation.

    Args:
        counted: The layers of a network in the order of the data.
    """
    return max(_peak(list(block)) for _, block in groupby(counted, key=_block))


def _block(layer: Layer) -> str:
    """The residual block of a layer, or its stage where it is in none."""
    parts = layer.name.split(".")
    return ".".join(parts[:3]) if layer.stage.startswith("layer") else layer.stage


def _peak(block: list[Layer]) -> int:
    # The last layer of a block that needs its input, besides the first.
    last = max(
        (i for i, layer in enumerate(block) if layer.kind in ("addition", "concatenation")),
        default=0,
    )
    most = 0
    for index, layer in enumerate(block):
        alive = layer.read + layer.written
        if 0 < index < last:
            # A projection reads the input itself, while the branch waits for it.
            is_projection = "downsample" in layer.name
            alive += block[index - 1].written if is_projection else block[0].read
        most = max(most, alive)
    return most
