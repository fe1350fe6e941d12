"""The contract that every ONNX file of this package keeps.

One float32 input `image` (N, 3, H, W) of normalised RGB, one float32 output `logits`
(N, C, h, w) at the network's own stride, and the spec in the metadata. Shapes are static, unless
the spec has a range: then the sides that may vary have names instead of numbers.

Opset 17 with IR version 8 is what every TensorRT from 10.0 on and OpenVINO read, and what
ONNX Runtime 1.15 and later run. FP8 and float16 scales need opset 19, and a BF16 network is of
opset 22, the first to declare BF16 for all of its operators.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.files import write_atomic
from fcn_trt.network.file import Network
from fcn_trt.network.load import first_line, parse_onnx
from fcn_trt.network.reference import Reference
from fcn_trt.network.sizes import tensor_sizes
from fcn_trt.spec import (
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAME,
    REFERENCE_KEY,
    Spec,
)

__all__ = [
    "OPSET",
    "copy_in_opset",
    "finish_network",
    "load_network",
    "model_of",
    "opset_of",
    "save_network",
    "stamp",
]

OPSET = 17
IR_VERSIONS = {17: 8, 19: 9, 22: 10}
"""The oldest IR version that each opset came with, after ONNX's table of versions."""

LARGE_CONSTANT = 64
"""Elements; what has more is a weight and no shape."""

Shape: TypeAlias = tuple[int | str, ...]
"""Sides of a tensor; a name stands for one that may vary."""


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators that a model is written in; 0 if it names none."""
    own = (int(i.version) for i in model.opset_import if i.domain in ("", "ai.onnx"))
    return next(own, 0)


def copy_in_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy, for its graph to be changed in, in another opset."""
    if opset == opset_of(model):
        copied = onnx.ModelProto()
        copied.CopyFrom(model)
        return copied
    copied = onnx.version_converter.convert_version(without_weights(model), opset)
    del copied.graph.input[len(model.graph.input) :]
    names = {tensor.name for tensor in model.graph.initializer}
    added = [tensor for tensor in copied.graph.initializer if tensor.name not in names]
    del copied.graph.initializer[:]
    copied.graph.initializer.extend([*model.graph.initializer, *added])
    copied.metadata_props.extend(model.metadata_props)
    return copied


def load_network(path: Path) -> tuple[onnx.ModelProto, Spec]:
    """Read an ONNX file that keeps the contract, and its spec.

    Raises:
        OnnxError: it is damaged, or was not written by this package.
    """
    network = Network.read(path)
    return model_of(network), network.spec


def model_of(network: Network) -> onnx.ModelProto:
    """The graph of a network, which keeps the contract.

    Raises:
        OnnxError: it is damaged, or is not as this package writes them.
    """
    model, spec = parse_onnx(network.read_bytes(), network.path), network.spec
    if opset_of(model) not in IR_VERSIONS:
        opsets = ", ".join(map(str, IR_VERSIONS))
        raise OnnxError(
            f"{network} has opset {opset_of(model)}, but networks of ours have one of {opsets}; "
            "export it again"
        )
    ends = (*model.graph.input, *model.graph.output)
    _check_ends(model.graph, spec, ends=[value.name for value in ends])
    _check(without_weights(model), spec)
    return model


def finish_network(model: onnx.ModelProto, spec: Spec) -> onnx.ModelProto:
    """Stamp a graph with its spec, infer every shape, and check that it keeps the contract.

    Of other metadata it keeps a reference of ours. A dynamic network is checked at the smallest, at
    the optimised and at the largest shape, too.

    Raises:
        OnnxError: the graph does not keep it.
    """
    model.ir_version = IR_VERSIONS[opset_of(model)]
    model.producer_name = "fcn_trt"
    stamp(model, spec)
    light = without_weights(model)
    graph = _with_shapes(light, spec)
    for fixed in _fixed_specs(spec):
        _check_at(light, fixed)
    _check_ends(graph, spec, ends=[v.name for v in (*model.graph.input, *model.graph.output)])
    del model.graph.value_info[:]
    model.graph.value_info.extend(graph.value_info)
    _check(model, spec)
    return model


def _check(model: onnx.ModelProto, spec: Spec) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _unsound(spec, error) from error


def stamp(model: onnx.ModelProto, spec: Spec, reference: Reference | None = None) -> None:
    """Write a spec into the metadata, and a reference; None keeps the one that is there."""
    kept = [entry.value for entry in model.metadata_props if entry.key == REFERENCE_KEY]
    if reference is not None:
        kept = [reference.to_json()]
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    for text in kept:
        model.metadata_props.add(key=REFERENCE_KEY, value=text)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that has large constants as inputs of their shape.

    Neither shapes nor opsets depend on their values, and passing 200 MB to and fro takes seconds.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) > LARGE_CONSTANT:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(value)
        else:
            light.graph.initializer.append(tensor)
    return light


def _with_shapes(light: onnx.ModelProto, spec: Spec) -> onnx.GraphProto:
    """The graph with the shape of every tensor, none of which is larger than an image makes."""
    try:
        image = (spec.batch, 3, *spec.input_size)
        tensor_sizes(light, image, opset_of(light), f"the graph of {spec.model}")
        return onnx.shape_inference.infer_shapes(
            light, check_type=True, strict_mode=True, data_prop=True
        ).graph
    except (ValueError, onnx.shape_inference.InferenceError) as error:
        if isinstance(error, OnnxError):
            raise
        raise _unsound(spec, error) from error


def _unsound(spec: Spec, error: Exception) -> OnnxError:
    return OnnxError(f"the graph of {spec.model} is not sound: {first_line(error)}")


def _check_ends(graph: onnx.GraphProto, spec: Spec, ends: Sequence[str]) -> None:
    """Compare the inputs and outputs that are no weights with what the spec says of them."""
    wanted = {INPUT_NAME: image_shape(spec), OUTPUT_NAME: logits_shape(spec)}
    found = {v.name: tensor_shape(v) for v in (*graph.input, *graph.output) if v.name in ends}
    if found != wanted:
        raise OnnxError(f"the graph of {spec.model} has {found}, but its spec says {wanted}")


def _check_at(light: onnx.ModelProto, fixed: Spec) -> None:
    """Check a copy of a dynamic network that is fixed at one shape of its range."""
    trial = onnx.ModelProto()
    trial.CopyFrom(light)
    for dim, side in zip(
        trial.graph.input[0].type.tensor_type.shape.dim, image_shape(fixed), strict=True
    ):
        dim.dim_value = side
    # The output's sides are left open, so that they are what the graph makes of the input's.
    for dim in trial.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    try:
        _check_ends(_with_shapes(trial, fixed), fixed, ends=(INPUT_NAME, OUTPUT_NAME))
    except OnnxError as error:
        raise OnnxError(
            f"{fixed.model} cannot be dynamic, so export it at one shape: {error}"
        ) from error


def _fixed_specs(spec: Spec) -> list[Spec]:
    """The spec at the smallest, the optimised and the largest shape of its range, if it has one."""
    if spec.dynamic is None:
        return []
    low = (spec.dynamic.min_size, spec.dynamic.min_batch)
    high = (spec.dynamic.max_size, spec.dynamic.max_batch)
    shapes = (low, (spec.input_size, spec.batch), high)
    return [replace(spec, dynamic=None, input_size=size, batch=n) for size, n in shapes]


def save_network(model: onnx.ModelProto, spec: Spec, path: Path) -> Network:
    """Write the file whole or not at all.

    Args:
        model: It keeps the contract.
        spec: That its metadata has.

    Raises:
        OutputError: it cannot be written.
    """
    data = model.SerializeToString()
    write_atomic(path, data)
    return Network(path=path, spec=spec, sha256=hashlib.sha256(data).hexdigest())


def tensor_shape(value: onnx.ValueInfoProto) -> Shape:
    """The shape of a graph input or output; 0 where a side has neither a number nor a name."""
    return tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim)


def image_shape(spec: Spec) -> Shape:
    """(N, 3, H, W), with "batch", "height" and "width" for the sides that may vary."""
    batch, height, width = _sides(spec)
    return batch or "batch", 3, height or "height", width or "width"


def logits_shape(spec: Spec) -> Shape:
    """(N, C, h, w), with "batch", "logits_height" and "logits_width" likewise."""
    batch, height, width = _sides(spec)
    return (
        batch or "batch",
        len(spec.classes),
        spec.logits_size[0] if height else "logits_height",
        spec.logits_size[1] if width else "logits_width",
    )


def _sides(spec: Spec) -> tuple[int | None, int | None, int | None]:
    """(batch, height, width) of the input; None for one that may vary."""
    sides = (spec.batch, *spec.input_size)
    if spec.dynamic is None:
        return sides
    low = (spec.dynamic.min_batch, *spec.dynamic.min_size)
    high = (spec.dynamic.max_batch, *spec.dynamic.max_size)
    batch, height, width = (
        side if a == b else None for side, a, b in zip(sides, low, high, strict=True)
    )
    return batch, height, width


def declare_ends(
    graph: onnx.GraphProto, image: Shape, logits: tuple[int | str | None, ...]
) -> None:
    """Declare the graph's input and its output anew, both float32.

    Args:
        image: Shape of the input.
        logits: Shape of the output; None is a side that is not known yet.
    """
    make = onnx.helper.make_tensor_value_info
    del graph.input[:]
    del graph.output[:]
    graph.input.append(make(INPUT_NAME, onnx.TensorProto.FLOAT, image))
    graph.output.append(make(OUTPUT_NAME, onnx.TensorProto.FLOAT, logits))


def new_network(
    nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto], spec: Spec
) -> onnx.ModelProto:
    """A network of these nodes that keeps the contract."""
    graph = onnx.helper.make_graph(nodes, spec.model, [], [], constants)
    declare_ends(graph, image_shape(spec), logits_shape(spec))
    opset = onnx.helper.make_opsetid("", OPSET)
    return finish_network(onnx.helper.make_model(graph, opset_imports=[opset]), spec)


def replace_content(
    graph: onnx.GraphProto,
    nodes: Iterable[onnx.NodeProto],
    constants: Iterable[onnx.TensorProto],
) -> None:
    """Put other nodes and constants into a graph; they may be its own, held in lists."""
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.initializer[:]
    graph.initializer.extend(constants)


def initializer(name: str, values: npt.NDArray[np.float32]) -> onnx.TensorProto:
    """A float32 constant of the graph."""
    return onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)
