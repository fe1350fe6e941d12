"""How long a network takes: each layer the longer of its arithmetic and its traffic, and a launch.

Source: Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance Model", 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from fcn_trt.advice.devices import Device, Unit
from fcn_trt.advice.published import Stack
from fcn_trt.model.layers import Layer
from fcn_trt.spec import Precision, Size

__all__ = [
    "ELEMENT_BYTES",
    "CountedLayer",
    "Efficiencies",
    "LayerTime",
    "LayerWork",
    "Run",
    "fused_work",
    "layer_times",
    "work",
]

ELEMENT_BYTES: Mapping[Precision, int] = MappingProxyType(
    {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1}
)
"""Bytes of a weight or an activation."""


class CountedLayer(Protocol):
    """A layer of an architecture or of a file, for one image; counts are of numbers."""

    @property
    def name(self) -> str:
        """Of its module or node."""

    @property
    def kind(self) -> str:
        """What it does."""

    @property
    def outputs(self) -> int:
        """Channels it writes."""

    @property
    def output_size(self) -> Size:
        """(height, width) of what it writes."""

    @property
    def weights(self) -> int:
        """Numbers in its kernel."""

    @property
    def parameters(self) -> int:
        """Its weights, and what else it was trained with."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""

    @property
    def read(self) -> int:
        """Activations it reads."""

    @property
    def written(self) -> int:
        """Activations it writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWork:
    """What a layer costs as a stack runs it.

    Attributes:
        layer: The layer.
        operations: Two for each multiply-accumulate.
        traffic_bytes: Weights and activations, read and written.
    """

    layer: CountedLayer
    operations: float
    traffic_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One image through a network on a device.

    Attributes:
        device: Where.
        stack: What runs it.
        precision: What its convolutions compute in.
        work: Its layers.
        windows: How often the network runs for one image.
        after_bytes: What is read and written behind the network.
    """

    device: Device
    stack: Stack
    precision: Precision
    work: tuple[LayerWork, ...]
    windows: int = 1
    after_bytes: float = 0

    @property
    def unit(self) -> Unit:
        """What computes the convolutions."""
        return self.device.unit(self.precision)

    @property
    def peak(self) -> float:
        """Operations per second at most."""
        return self.device.tops[self.precision] * 1e12

    @property
    def bandwidth(self) -> float:
        """Bytes per second at most."""
        return self.device.bandwidth_gb_s * 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiencies:
    """What a stack reaches of a device's peaks; the fitted numbers.

    Attributes:
        compute: By stack and unit, share of the peak. Above 1 where a convolution needs fewer
            operations than are counted, as Winograd's does.
        bandwidth: By stack, share of the peak.
        launch_us: By stack, what each layer takes on top.
    """

    compute: Mapping[tuple[Stack, Unit], float]
    bandwidth: Mapping[Stack, float]
    launch_us: Mapping[Stack, float]

    def to_dict(self) -> dict[str, Any]:
        """The shares as JSON has them."""
        return {
            "compute": {"/".join(pair): share for pair, share in self.compute.items()},
            "bandwidth": dict(self.bandwidth),
            "launch_us": dict(self.launch_us),
        }

    def sentences(self) -> list[str]:
        """What each stack reaches, in sentences without their full stops."""
        said = [
            f"{stack} reaches "
            + " and ".join(
                f"{100 * share:.0f} % of the peak of the {unit}"
                for (other, unit), share in self.compute.items()
                if other == stack
            )
            + f", {100 * bandwidth:.0f} % of the bandwidth, and needs {self.launch_us[stack]:.0f} "
            "us more per layer"
            for stack, bandwidth in self.bandwidth.items()
        ]
        if max(self.compute.values()) > 1:
            said.append(
                "above 100 % of a peak is no mistake: Winograd's method needs fewer "
                "multiplications than are counted, and peaks are at the reference clock, which "
                "cards exceed"
            )
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """Estimated time of a layer, all windows of an image together.

    Attributes:
        work: What it costs.
        compute_ms: Its arithmetic.
        memory_ms: Its memory traffic.
        launch_ms: Its launch.
    """

    work: LayerWork
    compute_ms: float
    memory_ms: float
    launch_ms: float

    @property
    def total_ms(self) -> float:
        """The longer of arithmetic and traffic, and the launch."""
        return max(self.compute_ms, self.memory_ms) + self.launch_ms

    def to_dict(self) -> dict[str, Any]:
        """The layer as JSON has it."""
        return {
            "name": self.work.layer.name,
            "kind": self.work.layer.kind,
            "gmac": self.work.operations / 2e9,
            "traffic_bytes": self.work.traffic_bytes,
            "compute_ms": self.compute_ms,
            "memory_ms": self.memory_ms,
            "launch_ms": self.launch_ms,
            "estimated_ms": self.total_ms,
            "bound_by": self.bound_by,
        }

    @property
    def bound_by(self) -> str:
        """What takes longest of it."""
        times = {
            "compute": self.compute_ms,
            "memory": self.memory_ms,
            "launch": self.launch_ms,
        }
        return max(times, key=times.__getitem__)


def work(layers: Iterable[Layer], *, stack: Stack, precision: Precision) -> tuple[LayerWork, ...]:
    """What each layer costs as a stack runs it.

    PyTorch runs batch normalisation, ReLU, addition and concatenation by themselves, and each
    reads and writes its tensor. TensorRT fuses them; see `fused_work`.
    """
    if stack == "tensorrt":
        return fused_work(layers, precision=precision)
    return tuple(
        _work(
            layer,
            moved=_moved(layer) + 2 * layer.written * (layer.is_normalised + layer.is_activated),
            precision=precision,
        )
        for layer in layers
    )


def fused_work(layers: Iterable[CountedLayer], *, precision: Precision) -> tuple[LayerWork, ...]:
    """What each layer costs in an engine.

    TensorRT folds normalisation, activations and additions into the convolution before; of an
    addition, the read of the other tensor is left. A concatenation is written by what it joins.
    """
    return tuple(
        _work(
            layer,
            moved=layer.read // 2 if layer.kind == "addition" else _moved(layer),
            precision=precision,
        )
        for layer in layers
        if layer.kind != "concatenation"
    )


def _moved(layer: CountedLayer) -> int:
    return layer.weights + layer.read + layer.written


def _work(layer: CountedLayer, *, moved: int, precision: Precision) -> LayerWork:
    return LayerWork(
        layer=layer,
        operations=2.0 * layer.macs,
        traffic_bytes=float(ELEMENT_BYTES[precision] * moved),
    )


def layer_times(run: Run, efficiencies: Efficiencies) -> tuple[LayerTime, ...]:
    """Estimated time of every layer of a run."""
    rate = run.peak * efficiencies.compute[run.stack, run.unit] / run.windows
    flow = run.bandwidth * efficiencies.bandwidth[run.stack] / run.windows
    launch_ms = run.windows * efficiencies.launch_us[run.stack] / 1e3
    return tuple(
        LayerTime(
            work=entry,
            compute_ms=1e3 * entry.operations / rate,
            memory_ms=1e3 * entry.traffic_bytes / flow,
            launch_ms=launch_ms,
        )
        for entry in run.work
    )
