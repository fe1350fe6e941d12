"""A wide INT8 network computed with height and width swapped, and swapped back at the end.

OpenVINO 2026.4's INT8 3x3 convolutions run at 250 GMAC/s on rows of 256 pixels and at 430 on rows
of 128 (2048 to 512 channels, two cores with AVX-512 VNNI). A convolution of a transposed image with
transposed kernels gives the transposed result, bit for bit, so a network whose logits are wider
than that and no higher is faster transposed: fcn_resnet50 at 1024x2048 takes 2.73 s, not 3.62.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from openvino import opset13

from fcn_trt.spec import Spec

__all__ = ["transpose_wide"]

FAST_WIDTH = 128
"""Pixels of a row of logits up to which convolutions are fast."""

_SWAP = (0, 1, 3, 2)

_PIXELWISE = frozenset(
    {"Add", "Clamp", "Convert", "FakeQuantize", "Multiply", "Parameter", "Relu", "Result"}
    | {"Subtract"}
)
"""Operations that do the same to each pixel, if their constants have no height or width."""


def transpose_wide(model: Any, spec: Spec) -> bool:
    """Swap height and width inside a network, where that makes it faster; its ends stay.

    Args:
        model: openvino.Model of static shape, changed in place.

    Returns:
        Whether it was done.
    """
    height, width = spec.logits_size
    is_wide = height <= FAST_WIDTH < width
    if spec.precision != "int8" or not is_wide or not all(map(_is_symmetric, _fed(model))):
        return False
    for op in model.get_ops():
        if op.get_type_name() == "Convolution":
            _transpose_weights(op)
    (image,), (logits,) = model.get_parameters(), model.get_results()
    readers = image.output(0).get_target_inputs()
    turned = opset13.transpose(image, np.array(_SWAP))
    for reader in readers:
        reader.replace_source_output(turned.output(0))
    back = opset13.transpose(logits.input_value(0), np.array(_SWAP))
    logits.input(0).replace_source_output(back.output(0))
    model.validate_nodes_and_infer_types()
    return True


def _fed(model: Any) -> Iterator[Any]:
    """The operations that the image goes through; its shape alone may go elsewhere."""
    fed: set[str] = set()
    for op in model.get_ordered_ops():
        kind = op.get_type_name()
        sources = (port.get_source_output().get_node().get_name() for port in op.inputs())
        if kind == "Parameter" or (kind != "ShapeOf" and not fed.isdisjoint(sources)):
            fed.add(op.get_name())
            yield op


def _is_symmetric(op: Any) -> bool:
    """Whether an operation does the same across as down."""
    kind, attributes = op.get_type_name(), op.get_attributes()
    if kind == "Concat":
        return bool(attributes["axis"] == 1)
    if kind not in ("Convolution", "MaxPool"):
        sides = [list(port.get_partial_shape())[2:] for port in op.inputs()[1:]]
        images = [list(op.output(0).get_partial_shape())[2:]] if op.outputs() else []
        return kind in _PIXELWISE and all(
            side in images or len(set(map(str, side))) <= 1 for side in sides
        )
    keys = ("strides", "dilations", "pads_begin", "pads_end", "kernel")
    square = [tuple(attributes[key]) for key in keys if key in attributes]
    square += [tuple(port.get_shape()[2:]) for port in op.inputs()[1:]]
    ends = [tuple(attributes[key]) for key in ("pads_begin", "pads_end")]
    return ends[0] == ends[1] and all(len(set(sides)) == 1 for sides in square)


def _transpose_weights(convolution: Any) -> None:
    """Swap the last two axes of the constant that weights come from."""
    node = convolution.input_value(1).get_node()
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    if math.prod(node.output(0).get_shape()[2:]) == 1:
        return
    turned = opset13.constant(np.ascontiguousarray(node.data.transpose(_SWAP)))
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(turned.output(0))
