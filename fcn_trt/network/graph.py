"""What a graph's nodes read and say, found by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.network.contract import initializer, replace_content

__all__ = ["GraphView", "Names", "keep_only", "point_convolution"]

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


class Names:
    """Names that are taken, from which others are made that are free.

    Args:
        taken: All so far.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = {*taken}
        self._last: Counter[str] = Counter()

    def free(self, wanted: str) -> str:
        """A name, numbered where it is taken; taken from now on."""
        name = wanted
        while name in self._taken:
            self._last[wanted] += 1  # goes on from there, so that many of one name take no longer
            name = f"{wanted}_{self._last[wanted]}"
        self._taken.add(name)
        return name


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
        self.names = Names((*self.tensors, *self.producers, *self.readers))

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

    def own_weight(self, node: onnx.NodeProto) -> Array | None:
        """The weight of an ungrouped convolution that nobody else reads; None of other nodes."""
        if node.op_type != "Conv" or attributes(node).get("group", 1) != 1:
            return None
        return self.value(node.input[1]) if len(self.readers[node.input[1]]) == 1 else None

    def set_weight(self, node: onnx.NodeProto, weight: Array, bias: Array | None = None) -> None:
        """Give a convolution another weight and, unless it is None, another bias."""
        if bias is not None:
            name = self.names.free(f"{node.output[0]}.bias")
            self.graph.initializer.append(initializer(name, bias))
            node.input[:] = [*node.input[:2], name]
        self.tensors[node.input[1]].CopyFrom(initializer(node.input[1], weight))


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name, texts decoded."""
    found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


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
    parts = {"weight": weight[:, :, None, None]}
    if bias is not None:
        parts["bias"] = bias
    named = {view.names.free(f"{name}.{part}"): values for part, values in parts.items()}
    view.graph.initializer.extend(initializer(*item) for item in named.items())
    return onnx.helper.make_node("Conv", [source, *named], [name], name=name)
