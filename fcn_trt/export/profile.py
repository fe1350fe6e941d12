"""What a model costs: parameters, multiply-accumulates and bytes, per stage, without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fcn_trt.export.architecture import Architecture
from fcn_trt.export.fcn import Fcn
from fcn_trt.export.pipeline import default_labels
from fcn_trt.labels import label_set
from fcn_trt.spec import Size

__all__ = ["Profile", "StageCost", "profile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """The cost of one stage for one image.

    Attributes:
        name: stem, layer1 to layer4, or head.
        parameters: Trainable numbers, batch normalisation included.
        gmac: Multiply-accumulates of its convolutions, in 1e9.
        output_size: (height, width) of what it hands on.
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
        arch: The architecture.
        size: (height, width) of the input in pixels.
        num_classes: Classes; None takes those of the family's usual label set.

    Returns:
        Counts of the convolutions; batch normalisation is folded and pooling is free.
    """
    classes = num_classes or len(label_set(default_labels(arch)).classes)
    with torch.device("meta"):  # tensors that have a shape and no data
        module = Fcn(arch, classes, auxiliary=True).eval()
        stages = _count(module, torch.empty(1, 3, *size))
    return Profile(
        model=arch.name,
        size=size,
        parameters=sum(stage.parameters for stage in stages),
        parameters_with_auxiliary=_parameters(module),
        stages=stages,
    )


def _count(module: Fcn, image: torch.Tensor) -> tuple[StageCost, ...]:
    """Run shapes through the module."""
    backbone = module.backbone
    parts = {"stem": backbone.stem}
    parts |= {f"layer{i}": getattr(backbone, f"layer{i}") for i in range(1, 5)}
    parts["head"] = module.decode_head
    outputs: dict[nn.Module, torch.Size] = {}
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            # Changes no shape, and without data takes four fifths of the time.
            layer.forward = lambda features: features
        layer.register_forward_hook(lambda layer, _, y: outputs.update({layer: y[0].shape}))
    module(image)
    return tuple(_stage(name, part, outputs) for name, part in parts.items())


def _stage(name: str, part: nn.Module, outputs: dict[nn.Module, torch.Size]) -> StageCost:
    macs = written = 0
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            count = outputs[layer].numel()
            macs += count * layer.weight[0].numel()
            written += count
    height, width = outputs[part][-2:]
    parameters = _parameters(part)
    return StageCost(
        name=name,
        parameters=parameters,
        gmac=macs / 1e9,
        output_size=(height, width),
        weight_bytes=4 * parameters,
        activation_bytes=4 * written,
    )


def _parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
