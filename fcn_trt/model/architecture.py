"""The architectures: what each model's name stands for, in numbers. Needs no torch.

torchvision, MMSegmentation and pytorch-auto-drive build the same network with different stems,
strides, dilations and heads. `Architecture` names those differences, and `Fcn` builds any of them.

Source: torchvision.models.segmentation.fcn; MMSegmentation configs/_base_/models/fcn_r50-d8.py and
configs/fcn; pytorch-auto-drive utils/models/segmentation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, cast

from fcn_trt.input_format import Rgb

__all__ = [
    "ARCHITECTURES",
    "DEFAULT_THRESHOLD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Architecture",
    "Head",
    "architecture",
    "log_odds",
]

IMAGENET_MEAN: Rgb = (123.675, 116.28, 103.53)
IMAGENET_STD: Rgb = (58.395, 57.12, 57.375)
"""On pixels of 0 to 255; the same numbers in every family, unless a checkpoint says otherwise."""

DEFAULT_THRESHOLD = 0.5
"""Probability from which a network with one logit has found its class, if nothing else is said."""


def log_odds(probability: float) -> float:
    """The logit whose sigmoid is a probability, which is between 0 and 1."""
    return math.log(probability / (1 - probability))


Depth: TypeAlias = Literal[18, 50, 101]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands behind the backbone.

    Attributes:
        convs: 3x3 convolutions before the classifier.
        dilation: Of those convolutions.
        concat: Whether the backbone's output is concatenated to theirs, before one more 3x3.
    """

    convs: int
    dilation: int = 1
    concat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a model's name stands for.

    Attributes:
        name: As its family spells it.
        family: Whose model it is.
        depth: Of the ResNet.
        stem: "7x7" (the paper's and V1b) or "3x3" (three convolutions, V1c).
        strides: Of the four stages.
        dilations: Of the four stages; a stage's first block has the dilation of the stage before.
        head: The decode head.
        align_corners: How the family upsamples these logits.
    """

    name: str
    family: Literal["torchvision", "mmsegmentation", "pytorch-auto-drive"]
    depth: Depth
    stem: Literal["7x7", "3x3"]
    strides: tuple[int, int, int, int]
    dilations: tuple[int, int, int, int]
    head: Head
    align_corners: bool

    @property
    def stride(self) -> int:
        """Input pixels per logit."""
        stride = 4
        for factor in self.strides:
            stride *= factor
        return stride

    @property
    def expansion(self) -> int:
        """Output channels of a block per channel of its width."""
        return 1 if self.depth == 18 else 4


def _architectures() -> dict[str, Architecture]:
    known = [_torchvision("fcn_resnet50", 50), _torchvision("fcn_resnet101", 101)]
    known.append(
        replace(
            known[-1],
            name="pad_fcn_resnet101",
            family="pytorch-auto-drive",
            align_corners=True,
        )
    )
    for suffix in ("", "_769x769"):
        for b in ("", "b"):
            known += [_mmsegmentation(f"fcn_r{depth}{b}-d8{suffix}") for depth in (18, 50, 101)]
            known += [_mmsegmentation(f"fcn_d6_r{depth}{b}-d16{suffix}") for depth in (50, 101)]
    return {entry.name: entry for entry in known}


def _torchvision(name: str, depth: Depth) -> Architecture:
    return Architecture(
        name=name,
        family="torchvision",
        depth=depth,
        stem="7x7",
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        head=Head(convs=1),
        align_corners=False,
    )


def _mmsegmentation(name: str) -> Architecture:
    match = re.fullmatch(r"fcn_(d6_)?r(18|50|101)(b?)-d(8|16)(_769x769)?", name)
    if match is None:
        raise ValueError(f"{name!r} is not spelt as MMSegmentation spells FCNs")
    d6, depth, b, stride, crop = match.groups()
    return Architecture(
        name=name,
        family="mmsegmentation",
        depth=cast(Depth, int(depth)),
        stem="7x7" if b else "3x3",
        strides=(1, 2, 1, 1) if stride == "8" else (1, 2, 2, 1),
        dilations=(1, 1, 2, 4) if stride == "8" else (1, 1, 1, 2),
        head=Head(convs=2, dilation=6 if d6 else 1, concat=True),
        align_corners=crop is not None,
    )


ARCHITECTURES = _architectures()
"""Every model name that can be exported."""


def architecture(name: str) -> Architecture:
    """The architecture of a model name.

    Raises:
        ValueError: the name is not known.
    """
    if name not in ARCHITECTURES:
        examples = {arch.family: arch.name for arch in reversed(ARCHITECTURES.values())}
        raise ValueError(
            f"unknown model {name!r}; `fcn-trt models` lists the {len(ARCHITECTURES)} known, such "
            f"as {', '.join(reversed(examples.values()))}"
        )
    return ARCHITECTURES[name]
