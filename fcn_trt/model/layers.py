"""Every layer of an architecture and what it costs, counted from its numbers. Needs no torch.

The layers are those of `Fcn`, under the names that its modules have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fcn_trt.model.architecture import Architecture
from fcn_trt.spec import Size

__all__ = ["BLOCKS", "Layer", "auxiliary_parameters", "layers", "stem_plan"]

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Residual blocks of the four stages, by depth (He et al., 2015, table 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer, for one image.

    Attributes:
        name: Of its module in `Fcn`; an addition or concatenation has that of its block or head.
        stage: stem, layer1 to layer4, or head.
        kind: What it does.
        inputs: Channels it reads; an addition reads them twice.
        outputs: Channels it writes.
        kernel: Side of the window in pixels.
        stride: Pixels between two windows.
        dilation: Pixels between two taps of a window.
        groups: Of a convolution.
        input_size: (height, width) of what it reads.
        output_size: (height, width) of what it writes.
        is_normalised: Whether batch normalisation follows; a convolution without it has a bias.
        is_activated: Whether a ReLU follows.
    """

    name: str
    stage: str
    kind: Literal["convolution", "max pooling", "addition", "concatenation"]
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    input_size: Size
    output_size: Size
    is_normalised: bool = False
    is_activated: bool = False

    @property
    def weights(self) -> int:
        """Numbers in the kernel of a convolution."""
        if self.kind != "convolution":
            return 0
        return self.outputs * self.inputs // self.groups * self.kernel**2

    @property
    def parameters(self) -> int:
        """Trainable numbers, with the bias or the two of each channel's batch normalisation."""
        if self.kind != "convolution":
            return 0
        return self.weights + self.outputs * (2 if self.is_normalised else 1)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a convolution."""
        return self.weights * self.output_size[0] * self.output_size[1]

    @property
    def read(self) -> int:
        """Activations it reads, in elements."""
        tensors = 2 if self.kind == "addition" else 1
        return tensors * self.inputs * self.input_size[0] * self.input_size[1]

    @property
    def written(self) -> int:
        """Activations it writes, in elements."""
        return self.outputs * self.output_size[0] * self.output_size[1]


def layers(
    arch: Architecture, *, size: Size, num_classes: int, base_width: int = 64
) -> tuple[Layer, ...]:
    """Every layer of an architecture in the order of the data, without the auxiliary head.

    Args:
        size: (height, width) of the input in pixels.
        num_classes: Classes of the classifier.
        base_width: Channels of the first stage; 64 in every published model.
    """
    stem = tuple(_stem(arch, size, base_width))
    backbone = stem + tuple(_stages(arch, stem[-1].output_size, base_width))
    last = backbone[-1]
    return backbone + tuple(_head(arch, last.output_size, last.outputs, num_classes))


def auxiliary_parameters(arch: Architecture, *, num_classes: int, base_width: int = 64) -> int:
    """Trainable numbers of the head on the third stage that only training uses."""
    inputs = 4 * base_width * arch.expansion
    channels = inputs // 4
    convolution = channels * inputs * 3**2 + 2 * channels
    return convolution + num_classes * (channels + 1)


def stem_plan(arch: Architecture, width: int) -> list[tuple[int, int, int, int]]:
    """(inputs, outputs, kernel, stride) of each convolution of the stem."""
    half = width // 2
    if arch.stem == "7x7":
        return [(3, width, 7, 2)]
    return [(3, half, 3, 2), (half, half, 3, 1), (half, width, 3, 1)]


def _stem(arch: Architecture, size: Size, width: int) -> Iterator[Layer]:
    for index, (inputs, outputs, kernel, stride) in enumerate(stem_plan(arch, width)):
        name = f"backbone.stem.{3 * index}"  # between them are normalisation and ReLU
        layer = _convolution(name, "stem", size, inputs, outputs, kernel=kernel, stride=stride)
        yield layer
        size = layer.output_size
    yield Layer(
        name="backbone.maxpool",
        stage="stem",
        kind="max pooling",
        inputs=width,
        outputs=width,
        kernel=3,
        stride=2,
        input_size=size,
        output_size=_strided(size, 2),
    )


def _stages(arch: Architecture, size: Size, base_width: int) -> Iterator[Layer]:
    inputs = base_width
    for index, blocks in enumerate(BLOCKS[arch.depth]):
        width = base_width << index
        dilation = arch.dilations[index]
        # As in Fcn: the first block of a dilated stage has half its dilation.
        first = dilation if dilation == 1 else dilation // 2
        for number in range(blocks):
            name = f"backbone.layer{index + 1}.{number}"
            stride = arch.strides[index] if number == 0 else 1
            spread = dilation if number else first
            plan = [(inputs, width, 3, stride, spread), (width, width, 3, 1, 1)]
            if arch.depth != 18:
                plan = [
                    (inputs, width, 1, 1, 1),
                    (width, width, 3, stride, spread),
                    (width, 4 * width, 1, 1, 1),
                ]
            made = _block(name, size, plan, stride)
            yield from made
            size, inputs = made[-1].output_size, made[-1].outputs


def _block(
    name: str, size: Size, plan: list[tuple[int, int, int, int, int]], stride: int
) -> list[Layer]:
    """A residual block of (inputs, outputs, kernel, stride, dilation) of each convolution."""
    stage = name.split(".")[1]
    made: list[Layer] = []
    for number, (inputs, outputs, kernel, step, dilation) in enumerate(plan, start=1):
        layer = _convolution(
            *(f"{name}.conv{number}", stage, made[-1].output_size if made else size),
            *(inputs, outputs),
            kernel=kernel,
            stride=step,
            dilation=dilation,
            is_activated=number < len(plan),
        )
        made.append(layer)
    return [*made, *_residual(name, stage, size, plan[0][0], made[-1], stride)]


def _residual(
    name: str, stage: str, size: Size, inputs: int, last: Layer, stride: int
) -> Iterator[Layer]:
    """The projection of a block's input, where the shapes differ, and the addition."""
    if stride != 1 or inputs != last.outputs:
        yield _convolution(
            *(f"{name}.downsample.0", stage, size, inputs, last.outputs),
            stride=stride,
            is_activated=False,
        )
    yield Layer(
        name=name,
        stage=stage,
        kind="addition",
        inputs=last.outputs,
        outputs=last.outputs,
        input_size=last.output_size,
        output_size=last.output_size,
        is_activated=True,
    )


def _head(arch: Architecture, size: Size, inputs: int, num_classes: int) -> Iterator[Layer]:
    head = arch.head
    channels = inputs // 4
    widths = [inputs] + [channels] * head.convs
    for index, (read, written) in enumerate(itertools.pairwise(widths)):
        yield _convolution(
            *(f"decode_head.convs.{index}.conv", "head", size, read, written),
            kernel=3,
            dilation=head.dilation,
        )
    if head.concat:
        joined = inputs + channels
        yield Layer(
            name="decode_head",
            stage="head",
            kind="concatenation",
            inputs=joined,
            outputs=joined,
            input_size=size,
            output_size=size,
        )
        yield _convolution("decode_head.conv_cat.conv", "head", size, joined, channels, kernel=3)
    yield _convolution(
        *("decode_head.conv_seg", "head", size, channels, num_classes),
        is_normalised=False,
        is_activated=False,
    )


def _convolution(
    name: str,
    stage: str,
    size: Size,
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    is_normalised: bool = True,
    is_activated: bool = True,
) -> Layer:
    """A convolution that is padded so that stride 1 keeps the size, as all of them are."""
    return Layer(
        name=name,
        stage=stage,
        kind="convolution",
        inputs=inputs,
        outputs=outputs,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        input_size=size,
        output_size=_strided(size, stride),
        is_normalised=is_normalised,
        is_activated=is_activated,
    )


def _strided(size: Size, stride: int) -> Size:
    """Size behind a window of odd side, padded by half of it."""
    return -(-size[0] // stride), -(-size[1] // stride)
