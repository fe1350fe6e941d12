"""A foreign graph in plain terms: ONNX's own operators, computing in float32, ready for inference.

What exporters and tools wrap around a network is undone: functions are inlined, half precision is
brought to float32, constants that are computed become constants, and nodes that do nothing when a
network is used are dropped. What cannot be undone is refused here, by the name of the node.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import opset_of, replace_content
from fcn_trt.network.graph import GraphView, Shape, attributes, keep_only
from fcn_trt.network.load import all_nodes, first_line
from fcn_trt.network.sizes import Sizes, called, value_of

__all__ = ["drop_copies", "lift_constants", "plain_model"]

logger = logging.getLogger(__name__)

_OLDEST_OPSET = 7
"""Before it, operators broadcast by an attribute of their own."""

_QUANTISED = re.compile(
    r"QLinear\w+|\w+Integer|(Dynamic)?QuantizeLinear|DequantizeLinear|QAttention"
)

_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}

MAX_NODES = 5_000
"""Of a file; fcn_resnet101 as PyTorch's exporters write it has 400."""

MAX_CALLS = 50
"""Functions that call each other, one inside the other."""

_GRAPH = ("", "")
"""Stands for the graph itself among functions, of which none has this name."""

MAX_COMPUTED_NODES = 2_000
"""Nodes that depend on constants only, 0.3 ms each."""

FREE_NUMBERS = 1 << 22
"""What such nodes may make in all beside twice as many numbers as the file itself holds."""

_OTHER_FLOATS = {
    getattr(onnx.TensorProto, name): name for name in ("FLOAT16", "BFLOAT16", "DOUBLE")
}

_COMPUTED_CONSTANTS = {
    *("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Expand", "Flatten", "Gather", "Identity"),
    *("Mul", "Neg", "Pow", "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Tile"),
    *("Transpose", "Unsqueeze"),
}
"""What exporters leave between a constant and its reader."""


def plain_model(model: onnx.ModelProto, output: str, path: Path) -> onnx.ModelProto:
    """The part of a model that makes `output`, in plain terms; the model given is changed.

    Raises:
        OnnxError: it is quantised, in training mode, has operators that no engine takes, or more
            nodes or computed constants than are taken.
    """
    _check_opset(model, path)
    _check_nodes(model, path)
    if model.functions:
        try:
            # To convert a function of another opset, the types of what it reads are needed.
            model = onnx.shape_inference.infer_shapes(model)
            model = onnx.inliner.inline_local_functions(model, convert_version=True)
        except (
            *(RuntimeError, ValueError, onnx.checker.ValidationError),
            onnx.shape_inference.InferenceError,
        ) as error:
            raise OnnxError(
                f"{path} has functions of its own that cannot be inlined: {first_line(error)}; "
                "export it again with opset 17"
            ) from error
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in constants]
    del graph.input[:]
    graph.input.extend(images)
    model.ir_version = max(model.ir_version, 4)  # before, weights had to be inputs, too
    keep_only(graph, output)
    del graph.value_info[:]
    for node in graph.node:
        _check_operator(node, path)
        node.ClearField("domain")
    opset = opset_of(model)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    _check_arguments(graph, opset, path)
    _check_order(graph, path)
    _bring_to_float32(graph, path)
    lift_constants(graph)
    _compute_constants(graph, opset, path)
    view = GraphView(graph)
    for node in graph.node:
        if _trains(node, view):
            raise OnnxError(
                f"{path} was exported in training mode: {called(node)} changes what passes; "
                "export it again after model.eval()"
            )
    for tensor in graph.initializer:
        _check_finite(tensor, path)
    return model


def _check_nodes(model: onnx.ModelProto, path: Path) -> None:
    """Refuse more nodes than are taken, counted as they are once all functions are inlined."""
    bodies: dict[tuple[str, str], list[onnx.NodeProto]] = {}
    for function in model.functions:
        bodies.setdefault(_function(function.domain, function.name), []).extend(function.node)
    calls: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for name, nodes in (*bodies.items(), (_GRAPH, model.graph.node)):
        found = [_function(node.domain, node.op_type) for node in all_nodes(nodes)]
        calls[name] = Counter(called for called in found if called in bodies)
        counts[name] = len(found) - calls[name].total()
    depths: dict[tuple[str, str], int] = {}
    try:
        for name in TopologicalSorter(calls).static_order():
            depths[name] = 1 + max((depths[inner] for inner in calls[name]), default=0)
            for inner, times in calls[name].items():
                counts[name] = min(counts[name] + times * counts[inner], 2 * MAX_NODES)
    except CycleError as error:
        called_again = ".".join(error.args[1][0])
        raise OnnxError(
            f"{path} has a function that calls itself, {called_again!r}; export it again without "
            "functions"
        ) from error
    if counts[_GRAPH] > MAX_NODES or max(depths.values()) > MAX_CALLS:
        raise OnnxError(
            f"{path} has more than the {MAX_NODES} nodes that are taken, counted with all "
            f"functions inlined, or functions that call each other {MAX_CALLS} deep; export the "
            "network up to its logits"
        )


def _function(domain: str, name: str) -> tuple[str, str]:
    return "" if domain == "ai.onnx" else domain, name


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    version = opset_of(model)
    if not _OLDEST_OPSET <= version <= newest:
        raise OnnxError(
            f"{path} (opset {version}) cannot be brought to 17: opsets {_OLDEST_OPSET} to {newest} "
            "are known; export it again with opset 17"
        )


def _check_order(graph: onnx.GraphProto, path: Path) -> None:
    """Refuse circles and loose ends: each tensor is made once, and before it is read."""
    made = {""} | {value.name for value in (*graph.input, *graph.initializer)}
    for node in graph.node:
        if not made.issuperset(node.input) or made.intersection(filter(None, node.output)):
            raise OnnxError(
                f"{path} is not sound at node {called(node)}, which reads what no node before it "
                "makes, or makes what is there already; export it again"
            )
        made.update(node.output)


def _check_arguments(graph: onnx.GraphProto, opset: int, path: Path) -> None:
    """Refuse nodes that read or make fewer or more tensors than their operator does."""
    sizes = Sizes(opset, ())
    for node in graph.node:
        try:
            schema = sizes.schema(node)
        except ValueError as error:
            raise OnnxError(
                f"{path} is not sound at node {called(node)}: {error}; export it again"
            ) from error
        read, made = len(node.input), len(node.output)
        values = sum(attribute.name != "doc_string" for attribute in node.attribute)
        if (
            not schema.min_input <= read <= schema.max_input
            or not schema.min_output <= made <= schema.max_output
            or not all([*node.input[: schema.min_input], *node.output[: schema.min_output]])
            or (node.op_type == "Constant" and values != 1)
        ):
            raise OnnxError(
                f"{path} is not sound at node {called(node)}, which has {read} inputs, {made} "
                f"outputs and {values} attributes, but its operator takes others; export it again"
            )


def _check_operator(node: onnx.NodeProto, path: Path) -> None:
    if _QUANTISED.fullmatch(node.op_type):
        raise OnnxError(f"{path} is quantised ({node.op_type}); import the float32 file instead")
    if node.domain not in ("", "ai.onnx"):
        raise OnnxError(
            f"{path} has the operator {node.domain}.{node.op_type} at node {node.name!r}, which is "
            "none of ONNX's own; import the file as it was before an optimiser wrote it, or export "
            "it without that plug-in"
        )
    if node.op_type in _CONTROL_FLOW:
        raise OnnxError(
            f"{path} has control flow at node {called(node)}, which no engine here takes; export "
            "it again with a fixed input size"
        )


def _bring_to_float32(graph: onnx.GraphProto, path: Path) -> None:
    """Make each tensor of another float type a float32 one; Casts between them then do nothing."""
    found = {t.data_type for t in graph.initializer if t.dims} & _OTHER_FLOATS.keys()
    for tensor in graph.initializer:
        _widen(tensor)
    for attribute in (a for node in graph.node for a in node.attribute):
        if attribute.type == onnx.AttributeProto.TENSOR:
            found |= {attribute.t.data_type} & _OTHER_FLOATS.keys() if attribute.t.dims else set()
            _widen(attribute.t)
        elif attribute.name in ("to", "dtype") and attribute.i in _OTHER_FLOATS:
            attribute.i = onnx.TensorProto.FLOAT
    for value in graph.input:
        if value.type.tensor_type.elem_type in _OTHER_FLOATS:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    if found:
        names = " and ".join(_OTHER_FLOATS[kind] for kind in sorted(found))
        logger.info("%s has weights of %s, which become FLOAT", path.name, names)


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _OTHER_FLOATS:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initializers, the one place where weights are looked for."""
    kept = []
    for node in graph.node:
        if node.op_type != "Constant":
            kept.append(node)
            continue
        ((kind, value),) = attributes(node).items()
        if kind == "value":
            value.name = node.output[0]
            graph.initializer.append(value)
        else:
            numbers = np.asarray(value, np.float32 if "float" in kind else np.int64)
            graph.initializer.append(onnx.numpy_helper.from_array(numbers, node.output[0]))
    _keep_nodes(graph, kept)


def _keep_nodes(graph: onnx.GraphProto, kept: list[onnx.NodeProto]) -> None:
    """Remove all other nodes, at once: one by one takes the square of their number."""
    if len(kept) < len(graph.node):
        replace_content(graph, kept, list(graph.initializer))


def _compute_constants(graph: onnx.GraphProto, opset: int, path: Path) -> None:
    """Compute what depends on constants only, where that is not much more than the file holds."""
    sizes = Sizes(opset, graph.initializer)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    left = FREE_NUMBERS + 2 * sum(math.prod(tensor.dims) for tensor in graph.initializer)
    nodes_left, kept = MAX_COMPUTED_NODES, []
    for node in graph.node:
        names = {name for name in node.input if name}
        made = None
        if node.op_type in _COMPUTED_CONSTANTS and names and names <= tensors.keys():
            made = _made_of_constants(node, sizes)
        if made is not None:
            nodes_left, left = nodes_left - 1, left - math.prod(made)
            if min(nodes_left, left) < 0:
                raise OnnxError(
                    f"{path} makes more of its constants than is computed, up to node "
                    f"{called(node)}: {MAX_COMPUTED_NODES} nodes, and {FREE_NUMBERS} numbers "
                    "beside twice those that it holds; export it again with its constants folded"
                )
            value = value_of(node, [tensors[name] for name in names], opset)
            if value is not None:
                tensor = onnx.numpy_helper.from_array(value, node.output[0])
                tensors[tensor.name] = tensor
                sizes.add(tensor)
                continue
        kept.append(node)
    if len(kept) < len(graph.node):
        replace_content(graph, kept, tensors.values())


def _made_of_constants(node: onnx.NodeProto, sizes: Sizes) -> Shape | None:
    """The shape of what a node makes of constants; None where they do not fit, as found later."""
    try:
        _, shape = sizes.infer(node)[node.output[0]]
    except ValueError:
        return None
    return shape if min(shape, default=0) >= 0 else None


def _trains(node: onnx.NodeProto, view: GraphView) -> bool:
    """Whether a node does what it does in training only."""
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
        mode = view.value(node.input[2])
        return mode is None or bool(np.any(mode))
    if node.op_type == "BatchNormalization":
        has_statistics = any(node.output[1:])
        return has_statistics or attributes(node).get("training_mode", 0) == 1
    return False


def _check_finite(tensor: onnx.TensorProto, path: Path) -> None:
    """Refuse weights with NaN or Inf; a single number may be the end of a Clip."""
    if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims:
        return
    if not np.isfinite(onnx.numpy_helper.to_array(tensor)).all():
        raise OnnxError(
            f"{path} has NaN or Inf in its weight {tensor.name!r}; export a checkpoint from "
            "before training diverged"
        )


def drop_copies(model: onnx.ModelProto, types: Mapping[str, int]) -> None:
    """Let readers of what only copies its input read that input.

    Exporters share weights through Identities, networks end training with Dropouts, and what was
    brought to float32 is full of Casts from it to it.

    Args:
        model: Each tensor is made before it is read.
        types: Element type of each tensor that is no constant.
    """
    graph = model.graph
    types = {**types, **{tensor.name: tensor.data_type for tensor in graph.initializer}}
    outputs = {value.name for value in graph.output}
    sources: dict[str, str] = {}
    for node in graph.node:
        node.input[:] = [sources.get(name, name) for name in node.input]
        if _copies(node, types) and node.output[0] not in outputs:
            sources[node.output[0]] = node.input[0]
    keep_only(graph, graph.output[0].name)


def _copies(node: onnx.NodeProto, types: Mapping[str, int]) -> bool:
    if node.op_type == "Cast":
        return types.get(node.input[0]) == int(attributes(node)["to"])
    return node.op_type in ("Identity", "Dropout")
