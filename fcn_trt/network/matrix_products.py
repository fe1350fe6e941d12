"""A network of nothing but products of matrices: what an engine computes fastest.

A convolution of 1x1 multiplies its weights with one column per pixel, and needs no gathering of
neighbours. The network has a frame for its input and logits for its output like any other, so that
it is typed, built and run as they are.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx

from fcn_trt.labels import numbered_label_set
from fcn_trt.network.contract import initializer, new_network, save_network
from fcn_trt.network.file import Network
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Size, Spec

__all__ = ["CLASSES", "write_product_network"]

CLASSES = 21

_MEAN, _STD = 127.5, 73.6
"""Of evenly spread pixels, which are then about as large as what the layers pass on."""

_CHANNELS = 3


def write_product_network(
    path: Path, *, width: int = 1024, layers: int = 8, size: Size = (128, 256)
) -> Network:
    """Write square products, one after the other, as FP32 ONNX that carries a spec.

    Weights are random, and as large as keeps what passes from growing and from shrinking.

    Args:
        width: Channels of the products.
        layers: How many products of width x width there are, between one that takes the image's
            channels and one that gives the classes.
        size: (height, width) of the input in pixels, each of which is a column of every product.

    Raises:
        OutputError: it cannot be written.
    """
    spec = _spec(size)
    nodes, constants = _products([_CHANNELS, *[width] * (layers + 1), len(spec.classes)])
    return save_network(new_network(nodes, constants, spec), spec, path)


def _spec(size: Size) -> Spec:
    labels = numbered_label_set(CLASSES)
    return Spec(
        model="matrix product",
        family="onnx",
        weights="random (seed 0)",
        labels=labels.name,
        classes=labels.classes,
        palette=labels.palette,
        mean=(_MEAN, _MEAN, _MEAN),
        std=(_STD, _STD, _STD),
        input_size=size,
        batch=1,
        stride=1,
        align_corners=False,
        precision="fp32",
        logits_type="float32",
        source_sha256="",
        licence="",
    )


def _products(channels: list[int]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Convolutions of 1x1, with a ReLU behind each but the last, and their weights."""
    nodes, constants = [], []
    rng = np.random.default_rng(0)
    tensor = INPUT_NAME
    last = len(channels) - 2
    for index, (read, written) in enumerate(pairwise(channels)):
        name = f"product_{index}"
        values = rng.standard_normal((written, read, 1, 1), dtype=np.float32)
        # A ReLU halves the mean square, which the 2 makes good (He et al. 2015, section 2.2).
        values *= np.float32(math.sqrt(2 / read))
        constants.append(initializer(f"{name}.weight", values))
        out = OUTPUT_NAME if index == last else name
        nodes.append(onnx.helper.make_node("Conv", [tensor, f"{name}.weight"], [out], name=name))
        if index != last:
            tensor = f"{name}.relu"
            nodes.append(onnx.helper.make_node("Relu", [out], [tensor], name=tensor))
    return nodes, constants
