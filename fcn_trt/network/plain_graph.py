"""A foreign graph in plain terms: ONNX's own operators, computing in float32, ready for inference.

What exporters and tools wrap around a network is undone: functions are inlined, half precision is
brought to float32, constants that are computed become constants, and nodes that do nothing when a
network is used are dropped. What cannot be undone is refused here, by the name of the node.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import first_line
from fcn_trt.network.graph import GraphView, attributes, called, infer_tensors, keep_only

__all__ = ["drop_copies", "lift_constants", "plain_model"]

logger = logging.getLogger(__name__)

_OLDEST_OPSET = 7
"""Before it, operators broadcast by an attribute of their own."""

_QUANTISED = re.compile(
    r"QLinear\w+|\w+Integer|(Dynamic)?QuantizeLinear|DequantizeLinear|QAttention"
)

_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}

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
        OnnxError: it is quantised, in training mode, or has operators that no engine takes.
    """
    if model.functions:
        try:
            # To convert a function of another opset, the types of what it reads are needed.
            model = onnx.shape_inference.infer_shapes(model)
            model = onnx.inliner.inline_local_functions(model, convert_version=True)
        except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
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
    _check_opset(model, path)
    _check_order(graph, path)
    for node in graph.node:
        _check_operator(node, path)
        node.ClearField("domain")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    _bring_to_float32(graph, path)
    lift_constants(graph)
    _compute_constants(model)
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


def _check_opset(model: onnx.ModelProto, path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
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
    for node in [n for n in graph.node if n.op_type == "Constant"]:
        ((kind, value),) = attributes(node).items()
        if kind == "value":
            value.name = node.output[0]
            graph.initializer.append(value)
        else:
            numbers = np.asarray(value, np.float32 if "float" in kind else np.int64)
            graph.initializer.append(onnx.numpy_helper.from_array(numbers, node.output[0]))
        graph.node.remove(node)


def _compute_constants(model: onnx.ModelProto) -> None:
    """Compute what depends on constants only."""
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        names = {name for name in node.input if name}
        if node.op_type not in _COMPUTED_CONSTANTS or not names or not names <= tensors.keys():
            continue
        if (value := _value_of(node, [tensors[name] for name in names], model)) is not None:
            tensor = onnx.numpy_helper.from_array(value, node.output[0])
            graph.initializer.append(tensor)
            tensors[tensor.name] = tensor
            graph.node.remove(node)


def _value_of(
    node: onnx.NodeProto, constants: list[onnx.TensorProto], model: onnx.ModelProto
) -> Any:
    """What a node makes of constants; None where it does not fit them, which is found later."""
    from onnx.reference import ReferenceEvaluator  # slow to load, and few files need it

    make = onnx.helper
    output = make.make_tensor_value_info(node.output[0], onnx.TensorProto.UNDEFINED, None)
    graph = make.make_graph([node], "constant", [], [output], constants)
    try:
        alone = make.make_model(graph, opset_imports=model.opset_import)
        return np.asarray(ReferenceEvaluator(alone).run(None, {})[0])
    except (ValueError, RuntimeError, TypeError, IndexError):
        return None


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


def drop_copies(model: onnx.ModelProto, image: tuple[int, ...]) -> None:
    """Let readers of what only copies its input read that input.

    Exporters share weights through Identities, networks end training with Dropouts, and what was
    brought to float32 is full of Casts from it to it.
    """
    graph = model.graph
    types = {name: kind for name, (kind, _) in infer_tensors(model, image).items()}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    copies = {n.output[0]: n.input[0] for n in graph.node if _copies(n, types)}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in copies and name not in outputs:
                name = copies[name]
            node.input[index] = name
    keep_only(graph, graph.output[0].name)


def _copies(node: onnx.NodeProto, types: dict[str, int]) -> bool:
    if node.op_type == "Cast":
        return types.get(node.input[0]) == int(attributes(node)["to"])
    return node.op_type in ("Identity", "Dropout")
