"""How large each tensor of a graph is for an image of one size, found before anything computes it.

A few nodes can ask for more memory than there is: Expand, Tile, Concat of a tensor with itself. So
the nodes are passed over in their order, shapes only; of what says how large others are, the few
numbers are computed. Neither memory nor time grows with what a graph claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.spec import MAX_PER_PIXEL, SMALL_NUMBERS

__all__ = ["Sizes", "called", "tensor_sizes", "value_of"]

_SHAPE_NUMBERS = 64
"""Numbers of a constant that may say how large something is."""

MAX_SHAPE_NODES = 2_000
"""Nodes that are computed to know sizes, 0.3 ms each."""

MAX_LIST_NUMBERS = 1 << 18
"""Of all lists of integers that are computed, which ONNX's inference writes out as shapes."""

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = npt.NDArray[np.generic]


class Sizes:
    """Types and shapes of tensors, and the values of those that say how large others are.

    Args:
        opset: Of ONNX's own operators.
        constants: Whose types are known.
    """

    def __init__(self, opset: int, constants: Iterable[onnx.TensorProto]) -> None:
        self.imports = [onnx.helper.make_opsetid("", opset)]
        self.types: dict[str, onnx.TypeProto] = {}
        self.values: dict[str, onnx.TensorProto] = {}
        self._opset = opset
        self._schemas: dict[str, onnx.defs.OpSchema] = {}
        for tensor in constants:
            self.add(tensor)

    def add(self, tensor: onnx.TensorProto) -> None:
        """Note a constant."""
        self.declare(tensor.name, tensor.data_type, tensor.dims)
        if math.prod(tensor.dims) <= _SHAPE_NUMBERS:
            self.values[tensor.name] = tensor

    def declare(self, name: str, kind: int, shape: Iterable[int]) -> None:
        """Note a tensor."""
        self.types[name] = onnx.helper.make_tensor_type_proto(kind, [*shape])

    def schema(self, node: onnx.NodeProto) -> onnx.defs.OpSchema:
        """What ONNX says of a node's operator.

        Raises:
            ValueError: it has no such operator in this opset.
        """
        found = self._schemas.get(node.op_type)
        if found is None:
            try:
                found = onnx.defs.get_schema(node.op_type, self._opset, "")
            except onnx.defs.SchemaError as error:
                raise ValueError(f"opset {self._opset} has no {node.op_type}") from error
            self._schemas[node.op_type] = found
        return found

    def infer(self, node: onnx.NodeProto) -> dict[str, tuple[int, Shape]]:
        """(element type, shape) of each tensor that a node makes; -1 for a side that is not known.

        Raises:
            ValueError: types or shapes do not go together, or what it reads is not known.
        """
        read = {name for name in node.input if name}
        if not read <= self.types.keys():
            raise ValueError(f"it reads {min(read - self.types.keys())!r}, of no known size")
        try:
            made = onnx.shape_inference.infer_node_outputs(
                self.schema(node),
                node,
                {name: self.types[name] for name in read},
                {name: self.values[name] for name in read if name in self.values},
                opset_imports=self.imports,
            )
        except (
            *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError),
        ) as error:
            raise ValueError(str(error).strip().partition("\n")[0][:200]) from error
        found = {}
        for name in filter(None, node.output):
            tensor = made[name].tensor_type if name in made else onnx.TypeProto.Tensor()
            sides = tensor.shape.dim
            shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in sides)
            if any(dim.dim_value < 0 for dim in sides):
                raise ValueError(f"it would make {name!r} of the shape {shape}")
            is_known = tensor.HasField("shape")
            found[name] = (int(tensor.elem_type), shape if is_known else (-1,))
        return found


def value_of(
    node: onnx.NodeProto, constants: Iterable[onnx.TensorProto], opset: int
) -> Array | None:
    """What a node makes of constants; None where it does not fit them, which is found later."""
    from onnx.reference import ReferenceEvaluator  # slow to load, and few files need it

    make = onnx.helper
    output = make.make_tensor_value_info(node.output[0], onnx.TensorProto.UNDEFINED, None)
    graph = make.make_graph([node], "constant", [], [output], constants)
    try:
        alone = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)])
        with np.errstate(all="ignore"):
            return np.asarray(ReferenceEvaluator(alone).run(None, {})[0])
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None


def tensor_sizes(
    model: onnx.ModelProto, image: Shape, opset: int, path: Path | str
) -> dict[str, tuple[int, Shape]]:
    """(element type, shape) of each tensor of a graph but its constants.

    Args:
        model: Its first input is the image, others are constants, and each tensor is made before it
            is read.
        image: Shape of the input.
        opset: Of its operators.
        path: What to call the file in messages.

    Raises:
        ValueError: the graph does not take such an image; the node is named.
        OnnxError: it makes a tensor larger than `MAX_PER_PIXEL` numbers a pixel of it, or one whose
            size depends on what it shows.
    """
    graph = model.graph
    sizes = Sizes(opset, graph.initializer)
    for value in graph.input[1:]:
        sides = value.type.tensor_type.shape.dim
        sizes.declare(value.name, value.type.tensor_type.elem_type, [d.dim_value for d in sides])
    given = graph.input[0]
    sizes.declare(given.name, given.type.tensor_type.elem_type, image)
    found = {given.name: (int(given.type.tensor_type.elem_type), tuple(image))}
    # Of a shape (N, C, H, W) or (N, H, W, C), whichever has the channels.
    pixels = math.prod(image) // max(1, min(image[1], image[3]))
    most = max(MAX_PER_PIXEL * pixels, SMALL_NUMBERS)
    budget = _Budget(path)
    for node in graph.node:
        try:
            made = sizes.infer(node)
        except ValueError as error:
            raise ValueError(
                f"shapes or types do not go together at node {called(node)} ({error})"
            ) from error
        for name, (kind, shape) in made.items():
            _require_bounded(node, shape, most, image, path)
            budget.take_list(node, kind, shape)
            sizes.declare(name, kind, shape)
        found |= made
        _note_value(node, sizes, budget)
    return found


def _note_value(node: onnx.NodeProto, sizes: Sizes, budget: _Budget) -> None:
    """Compute what a node makes, if it is of a few numbers that are known."""
    read = [name for name in node.input if name]
    made = [sizes.types[name].tensor_type.shape.dim for name in node.output if name]
    if len(made) != 1 or math.prod(dim.dim_value for dim in made[0]) > _SHAPE_NUMBERS:
        return
    if node.op_type == "Size":
        dims = sizes.types[read[0]].tensor_type.shape.dim
        value: Array | None = np.array(math.prod(dim.dim_value for dim in dims), np.int64)
    elif node.op_type == "Shape":
        shape = [dim.dim_value for dim in sizes.types[read[0]].tensor_type.shape.dim]
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        part = shape[ends.get("start", 0) : ends.get("end", len(shape))]
        value = np.array(part, np.int64)
    elif read and all(name in sizes.values for name in read):
        budget.take_node(node)
        value = value_of(node, [sizes.values[name] for name in {*read}], sizes.imports[0].version)
    else:
        return
    if value is not None and value.size <= _SHAPE_NUMBERS and value.dtype.kind in "biuf":
        sizes.values[node.output[0]] = onnx.numpy_helper.from_array(value, node.output[0])


def _require_bounded(
    node: onnx.NodeProto, shape: Shape, most: int, image: Shape, path: Path | str
) -> None:
    if min(shape, default=0) < 0:
        raise OnnxError(
            f"{path} has a tensor whose size its image alone does not say, at node {called(node)}; "
            "export it again with a fixed input size"
        )
    if math.prod(shape) > most:
        raise OnnxError(
            f"{path} makes {math.prod(shape)} numbers of an image of {_shown(image)} at node "
            f"{called(node)}, and at most {most} are computed ({MAX_PER_PIXEL} a pixel); export "
            "the network up to its logits"
        )


class _Budget:
    """What all nodes together may take."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._nodes, self._numbers = MAX_SHAPE_NODES, MAX_LIST_NUMBERS

    def take_node(self, node: onnx.NodeProto) -> None:
        self._nodes -= 1
        if self._nodes < 0:
            self._refuse(f"more than {MAX_SHAPE_NODES} nodes that compute sizes", node)

    def take_list(self, node: onnx.NodeProto, kind: int, shape: Shape) -> None:
        is_list = len(shape) == 1 and kind in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
        self._numbers -= shape[0] if is_list else 0
        if self._numbers < 0:
            self._refuse(f"lists of more than {MAX_LIST_NUMBERS} integers that it computes", node)

    def _refuse(self, what: str, node: onnx.NodeProto) -> None:
        raise OnnxError(
            f"{self._path} has {what}, up to node {called(node)}; export it again with a fixed "
            "input size"
        )


def called(node: onnx.NodeProto) -> str:
    """What to call a node in messages: its operator and its name, or its output's."""
    return f"{node.op_type} {node.name or next(iter(node.output), '')!r}"


def _shown(image: Shape) -> str:
    return "x".join(map(str, image))
