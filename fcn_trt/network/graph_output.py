"""The output end of a foreign graph: what stands between its logits and what it gives out.

The logits are what the first node makes, counted from the output, that can be no part of reading
them; tail_walk.py says what the nodes behind it do. Then the graph ends there, and its last
convolution, or one more, makes the classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import opset_of
from fcn_trt.network.graph import GraphView, Shape, attributes, keep_only, point_convolution
from fcn_trt.network.sizes import called
from fcn_trt.network.tail_walk import SIZED, STEPS, Tail, Walk
from fcn_trt.spec import Size

__all__ = ["cut_tail", "read_tail"]

_NCHW = {
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace"),
    *("GlobalAveragePool", "InstanceNormalization", "LRN", "MaxPool"),
}
"""Operators that have the channels second, whatever the file's own layout."""

_OTHER_LAYOUT = {"Flatten", "Gemm", "MatMul", "Reshape", "Squeeze", "Unsqueeze"}


def read_tail(
    model: onnx.ModelProto,
    tensors: dict[str, tuple[int, Shape]],
    *,
    input_layout: str,
    size: Size,
    threshold: float | None,
    path: Path,
) -> Tail:
    """Find the logits of a graph's one output, and what is behind them.

    Args:
        model: Constants are initializers in it.
        tensors: Type and shape of each, as far as they are known, for an image of `size`.
        input_layout: "NCHW" or "NHWC".
        size: (height, width) of that image.
        threshold: Probability from which a network with one logit has found what it looks for.
        path: Of the file, for messages.

    Raises:
        OnnxError: the file's label map is no argmax of upsampled logits.
    """
    view = GraphView(model.graph)
    output = model.graph.output[0].name
    logits, nodes = _behind_logits(view, output)
    if logits not in view.producers:
        raise OnnxError(f"{path} computes nothing between its input and {output!r}")
    layout = _layout(view, logits, model.graph.input[0].name, input_layout)
    kind, shape = tensors.get(logits, (onnx.TensorProto.FLOAT, ()))
    if kind != onnx.TensorProto.FLOAT or len(shape) not in (0, 4):
        raise OnnxError(
            f"{path} makes {onnx.TensorProto.DataType.Name(kind)} of shape {shape} at node "
            f"{called(view.producers[logits])}, but scores (N, C, h, w) were expected; export the "
            "network up to its logits"
        )
    shapes = {name: found for name, (_, found) in tensors.items()}
    channels = shape[layout.index("C")] if shape else 0
    walk = Walk(view, shapes, opset_of(model), size, path)
    walk.layout = layout
    walk.cut(logits, channels)
    walk.walk(nodes)
    return walk.finish(threshold)


def _behind_logits(view: GraphView, output: str) -> tuple[str, list[tuple[onnx.NodeProto, str]]]:
    """The logits' name, and the nodes behind them, each with the output that is used."""
    name, found = output, []
    while (node := view.producers.get(name)) is not None and node.op_type in STEPS:
        variables = view.variables(node)[: 1 if node.op_type in SIZED else None]
        if len(variables) != 1:
            break
        found.append((node, name))
        name = variables[0]
    return name, found[::-1]


def _layout(view: GraphView, name: str, image: str, input_layout: str) -> str:
    """The layout of a tensor, from the nearest node before it that says one."""
    orders = []
    while name != image:
        node = view.producers.get(name)
        if node is None or node.op_type in _NCHW | _OTHER_LAYOUT:
            input_layout = "NCHW"
            break
        if node.op_type == "Transpose":
            orders.append(attributes(node)["perm"])
        variables = view.variables(node)
        if not variables:
            return "NCHW"
        name = variables[0]
    layout = input_layout
    for order in reversed(orders):
        if len(order) == 4:
            layout = "".join(layout[axis] for axis in order)
    return layout


def cut_tail(model: onnx.ModelProto, tail: Tail) -> str:
    """End a graph at the logits of its classes, (N, C, h, w), whose name is returned."""
    graph, name = model.graph, tail.tensor
    keep_only(graph, name)
    view = GraphView(graph)
    is_nchw = tail.layout == "NCHW"
    if not is_nchw:
        order = [tail.layout.index(letter) for letter in "NCHW"]
        name = view.names.free(f"{name}.first")
        node = onnx.helper.make_node("Transpose", [tail.tensor], [name], name=name, perm=order)
        graph.node.append(node)
    classes, channels = tail.matrix.shape
    is_same = classes == channels and (tail.matrix == np.eye(classes)).all()
    if not is_same or tail.shift.any():
        last = view.producers[tail.tensor]
        weight = view.own_weight(last)
        if weight is not None and is_nchw and name not in view.readers:
            bias = view.value(last.input[2]) if len(last.input) > 2 else np.zeros(channels)
            if bias is not None:
                mixed = np.einsum("kc,cihw->kihw", tail.matrix, weight)
                view.set_weight(last, mixed, tail.matrix @ bias + tail.shift)
                return name
        source, name = name, view.names.free(f"{name}.classes")
        graph.node.append(point_convolution(view, source, name, tail.matrix, tail.shift))
    keep_only(graph, name)
    return name
