"""What a graph's nodes read and say, found by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.network.contract import initializer, replace_content, without_weights

__all__ = ["GraphView", "called", "infer_tensors", "keep_only", "point_convolution"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class GraphView:
    """A graph's producers, readers and constants, as they are when it is made."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def value(self, name: str) -> Array | None:
        """The value of a constant; None for what is computed."""
        tensor = self.tensors.get(name)
        return None if tensor is None else np.asarray(onnx.numpy_helper.to_array(tensor))

    def argument(self, node: onnx.NodeProto, name: str, index: int) -> Array | None:
        """What opsets give as an attribute or, later, as an input; None if absent or computed."""
        found = attributes(node).get(name)
        if found is not None:
            return np.asarray(found)
        return self.value(node.input[index]) if index < len(node.input) else None

    def variables(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are no constants."""
        return [name for name in node.input if name and name not in self.tensors]

    def fresh(self, name: str) -> str:
        """A name that no tensor has yet."""
        while name in self.tensors or name in self.producers or name in self.readers:
            name += "_"
        return name

    def own_weight(self, node: onnx.NodeProto) -> Array | None:
        """The weight of an ungrouped convolution that nobody else reads; None of other nodes."""
        if node.op_type != "Conv" or attributes(node).get("group", 1) != 1:
            return None
        return self.value(node.input[1]) if len(self.readers[node.input[1]]) == 1 else None

    def set_weight(self, node: onnx.NodeProto, weight: Array, bias: Array | None = None) -> None:
        """Give a convolution another weight and, unless it is None, another bias."""
        if bias is not None:
            name = self.fresh(f"{node.output[0]}.bias")
            self.graph.initializer.append(initializer(name, bias))
            node.input[:] = [*node.input[:2], name]
        self.tensors[node.input[1]].CopyFrom(initializer(node.input[1], weight))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name, texts decoded."""
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def called(node: onnx.NodeProto) -> str:
    """What to call a node in messages: its operator and its name, or its output's."""
    return f"{node.op_type} {node.name or node.output[0]!r}"


def keep_only(graph: onnx.GraphProto, output: str) -> None:
    """Delete every node and constant that `output` does not need, and the other outputs."""
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(name for name in node.input if name)
            kept.append(node)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    replace_content(graph, reversed(kept), constants)
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [None] * 4)
    )


def point_convolution(
    view: GraphView, source: str, name: str, weight: Array, bias: Array | None = None
) -> onnx.NodeProto:
    """A convolution of 1x1, whose constants are added to the graph and which is not.

    Args:
        view: Of the graph.
        source: Tensor that it reads.
        name: Of the tensor that it makes.
        weight: (outputs, inputs).
        bias: (outputs,), or None.
    """
    parts = {f"{name}.weight": weight[:, :, None, None]}
    if bias is not None:
        parts[f"{name}.bias"] = bias
    view.graph.initializer.extend(initializer(view.fresh(k), v) for k, v in parts.items())
    return onnx.helper.make_node("Conv", [source, *map(view.fresh, parts)], [name], name=name)


def infer_tensors(model: onnx.ModelProto, image: Iterable[int]) -> dict[str, tuple[int, Shape]]:
    """(element type, shape) of what can be inferred; 0 for a side that is not known.

    Args:
        model: Its first input is the image.
        image: Shape of the input to infer them for.
    """
    trial = without_weights(model)
    for dim, side in zip(trial.graph.input[0].type.tensor_type.shape.dim, image, strict=True):
        dim.dim_value = side
    trial.graph.output[0].ClearField("type")
    try:
        graph = onnx.shape_inference.infer_shapes(trial, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        return {}  # what is wrong is said when the finished network is checked
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
