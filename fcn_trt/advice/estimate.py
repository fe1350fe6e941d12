"""An estimate of a network on a device, with the range that its makers' own errors suggest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcn_trt.advice.calibrated import RowEstimate, compare_published, fitted
from fcn_trt.advice.devices import Device
from fcn_trt.advice.devices import device as device_of
from fcn_trt.advice.network import CountedNetwork
from fcn_trt.advice.roofline import ELEMENT_BYTES, LayerTime, Run, fused_work, layer_times
from fcn_trt.spec import Precision, Size, format_size

__all__ = [
    "EXTRA",
    "RANGE_SHARE",
    "Doubt",
    "Estimate",
    "doubt",
    "estimate",
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
        network: What runs there, counted at its size.
        precision: What its convolutions compute in.
        layers: Every layer, in the order of the data.
        doubt: How far off it may be.
        memory_bytes: Weights and activations at their most; TensorRT's and CUDA's own come on top.
    """

    device: Device
    network: CountedNetwork
    precision: Precision
    layers: tuple[LayerTime, ...]
    doubt: Doubt
    memory_bytes: int

    @property
    def model(self) -> str:
        """Name of the network."""
        return self.network.name

    @property
    def size(self) -> Size:
        """(height, width) of the input."""
        return self.network.size

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
            f"{self.model} at {format_size(self.size)} in {self.precision}: estimated {rate} "
            f"frames/s ({low} to {high})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON has it, without its layers."""
        return {
            "model": self.model,
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


def estimate(device: Device, network: CountedNetwork, *, precision: Precision) -> Estimate:
    """Estimate a network that TensorRT runs on a device.

    Args:
        precision: One that the device computes in.

    Raises:
        ValueError: the device has no peak of this precision.
    """
    if precision not in device.tops:
        raise ValueError(
            f"{device.name} does not compute in {precision}, only in {', '.join(device.tops)}"
        )
    run = Run(
        device=device,
        stack="tensorrt",
        precision=precision,
        work=fused_work(network.layers, precision=precision),
    )
    return Estimate(
        device=device,
        network=network,
        precision=precision,
        layers=layer_times(run, fitted()),
        doubt=doubt(device, precision, network.doubts),
        memory_bytes=ELEMENT_BYTES[precision] * (network.parameters + network.peak_activations),
    )


def doubt(device: Device, precision: Precision, others: Sequence[str] = ()) -> Doubt:
    """How far off an estimate for a device and precision may be.

    The range holds four fifths of what is published: of the errors on rows left out one by one
    where rows of the device are published, else of the errors on devices left out as a whole, each
    device weighing the same.

    Args:
        others: Further reasons to doubt it, each of which widens the range.
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
    extras += len(others)
    return Doubt(
        factor=math.exp(math.hypot(spread, EXTRA * extras**0.5)), reasons=(*reasons, *others)
    )


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
