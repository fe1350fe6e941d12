"""What a model costs: parameters, multiply-accumulates and bytes, per stage, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from fcn_trt.labels import label_set
from fcn_trt.model.architecture import Architecture
from fcn_trt.model.layers import Layer, auxiliary_parameters, layers
from fcn_trt.spec import Size

__all__ = ["Profile", "StageCost", "default_labels", "profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """The cost of one stage for one image.

    Attributes:
        name: stem, layer1 to layer4, or head.
        parameters: Trainable numbers, batch normalisation included.
        gmac: Multiply-accumulates of its convolutions, in 1e9.
        output_size: (height, width) of what its convolutions hand on.
        weight_bytes: Its weights in FP32.
        activation_bytes: What its convolutions write, in FP32.
    """

    name: str
    parameters: int
    gmac: float
    output_size: Size
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The cost of a model for one image.

    Attributes:
        model: Name of the architecture.
        size: (height, width) of the input.
        parameters: As exported, without the auxiliary head.
        parameters_with_auxiliary: With the head that only training uses.
        stages: In the order of the data.
    """

    model: str
    size: Size
    parameters: int
    parameters_with_auxiliary: int
    stages: tuple[StageCost, ...]

    @property
    def gmac(self) -> float:
        """Multiply-accumulates of all convolutions, in 1e9."""
        return sum(stage.gmac for stage in self.stages)

    @property
    def gflops(self) -> float:
        """Two floating-point operations per multiply-accumulate, in 1e9."""
        return 2 * self.gmac


def profile(arch: Architecture, *, size: Size, num_classes: int | None = None) -> Profile:
    """Count what an architecture costs.

    Args:
        size: (height, width) of the input in pixels.
        num_classes: Classes; None takes those of the family's usual label set.

    Returns:
        Counts of the convolutions; batch normalisation is folded and pooling is free.
    """
    classes = num_classes or len(label_set(default_labels(arch)).classes)
    counted = layers(arch, size=size, num_classes=classes)
    stages = tuple(
        _stage(name, [layer for layer in group if layer.kind == "convolution"])
        for name, group in groupby(counted, key=attrgetter("stage"))
    )
    parameters = sum(stage.parameters for stage in stages)
    return Profile(
        model=arch.name,
        size=size,
        parameters=parameters,
        parameters_with_auxiliary=parameters + auxiliary_parameters(arch, num_classes=classes),
        stages=stages,
    )


def default_labels(arch: Architecture) -> str:
    """The label set that a family is mostly trained on: its number of classes, where none is given.

    torchvision publishes 21 VOC classes; the other families report Cityscapes first.
    """
    return "voc" if arch.family == "torchvision" else "cityscapes"


def _stage(name: str, convolutions: list[Layer]) -> StageCost:
    parameters = sum(layer.parameters for layer in convolutions)
    return StageCost(
        name=name,
        parameters=parameters,
        gmac=sum(layer.macs for layer in convolutions) / 1e9,
        output_size=convolutions[-1].output_size,
        weight_bytes=4 * parameters,
        activation_bytes=4 * sum(layer.written for layer in convolutions),
    )
