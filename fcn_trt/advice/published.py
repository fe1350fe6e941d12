"""Published measurements of FCNs, and what each of them really times; the rows of published.json.

An estimate is only as good as what it was fitted on, so each row says where it is from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeAlias

from fcn_trt.model.architecture import Architecture, Head, architecture
from fcn_trt.spec import Precision, Size, parse_size

__all__ = ["STRIDE32_RESNET18", "Measurement", "Source", "Stack", "measurements"]

Stack: TypeAlias = Literal["pytorch", "tensorrt"]
"""What runs the network: layer by layer as written, or compiled with layers fused."""

STRIDE32_RESNET18 = Architecture(
    name="stride32_resnet18",
    family="torchvision",
    depth=18,
    stem="7x7",
    strides=(1, 2, 2, 2),
    dilations=(1, 1, 1, 1),
    head=Head(convs=1),
    align_corners=False,
)
"""jetson-inference's network: a logit stands for 32x32 pixels, so it is no rival of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who published a measurement.

    Attributes:
        name: Short name.
        url: The public page.
        times: The stack, and what is timed.
    """

    name: str
    url: str
    times: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A published measurement of one network on one device.

    Attributes:
        name: What was measured.
        source: Who published it.
        device: Name in devices.json.
        stack: What ran the network.
        precision: What its convolutions computed in.
        arch: The network.
        classes: Of its classifier.
        size: (height, width) of what the network got.
        windows: How often the network ran for one image.
        full_size_passes: How often FP32 logits of the size of the image were read or written.
        published_fps: Images per second as published; None where a latency is.
        published_ms: Latency as published; None where a rate is.
        published_gflops: Operations as published, in 1e9; None if unpublished.
        published_parameters_m: Parameters as published, in 1e6; None if unpublished.
        assumed: What had to be assumed of the images; None if nothing.
        is_anchor: Whether it is one of the rows that the estimates promise to meet.
    """

    name: str
    source: Source
    device: str
    stack: Stack
    precision: Precision
    arch: Architecture
    classes: int
    size: Size
    windows: int = 1
    full_size_passes: int = 0
    published_fps: float | None = None
    published_ms: float | None = None
    published_gflops: float | None = None
    published_parameters_m: float | None = None
    assumed: str | None = None
    is_anchor: bool = False

    @property
    def seconds(self) -> float:
        """Time of one image."""
        if self.published_fps is not None:
            return 1 / self.published_fps
        if self.published_ms is None:
            raise ValueError(f"{self.name} has neither a rate nor a latency")
        return self.published_ms / 1e3

    @property
    def configuration(self) -> tuple[object, ...]:
        """What was run: the same network, trained for longer, is no second measurement."""
        costs = replace(self.arch, name="", family="torchvision", align_corners=False)
        run = (self.device, self.stack, self.precision, self.size, self.windows, self.classes)
        return (*run, costs)


@cache
def measurements() -> tuple[Measurement, ...]:
    """Every published measurement that is known."""
    text = resources.files("fcn_trt.advice").joinpath("published.json").read_text(encoding="utf-8")
    read = json.loads(text)
    sources = {name: Source(name=name, **entry) for name, entry in read["sources"].items()}
    return tuple(_measurement(entry, sources) for entry in read["measurements"])


def _measurement(entry: dict[str, Any], sources: dict[str, Source]) -> Measurement:
    fields = dict(entry)
    model = fields.pop("model")
    fields["arch"] = STRIDE32_RESNET18 if model == STRIDE32_RESNET18.name else architecture(model)
    fields["source"] = sources[fields["source"]]
    fields["size"] = parse_size(fields["size"])
    return Measurement(**fields)
