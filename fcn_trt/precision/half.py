"""FP32 ONNX to strongly typed FP16 or BF16 ONNX, and what is not quantised in an INT8 or FP8 one.

Each node computes either in half precision or, where it was asked to be kept, in FP32. A tensor has
the type of the node that makes it, weights are rounded once, here, and a Cast stands where a tensor
goes to a node of the other type: behind the input, before the output, and around each island of
kept nodes. Both ends of the contract stay float32.

BF16 has float32's range. FP16 ends at 65504, so what does not fit has to be kept: weights are found
here, activations by fp16_range.py.

Source: TensorRT's strongly typed networks, where the types of all tensors follow from those in the
file and nothing is cast to make them fit; ONNX operator Resize, whose scales are always float32.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.network.contract import OPSET, copy_in_opset, finish_network, opset_of, replace_content
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Precision, Spec

__all__ = ["FP16_MAX", "HalfPrecision", "to_half"]

HalfPrecision: TypeAlias = Literal["fp16", "bf16"]

FP16_MAX = 65504.0
"""The largest finite float16."""

_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Half:
    """A half type, and the opset that declares it for every operator of an FCN."""

    onnx: int
    numpy: npt.DTypeLike
    opset: int


_HALVES: dict[HalfPrecision, _Half] = {
    "fp16": _Half(onnx=onnx.TensorProto.FLOAT16, numpy=np.float16, opset=OPSET),
    "bf16": _Half(onnx=onnx.TensorProto.BFLOAT16, numpy=ml_dtypes.bfloat16, opset=22),
}


def to_half(
    model: onnx.ModelProto,
    spec: Spec,
    precision: HalfPrecision,
    *,
    keep: Set[str] = frozenset(),
) -> tuple[onnx.ModelProto, Spec]:
    """Type an FP32 network as FP16 or BF16, or what is float32 in a quantised one as FP16.

    Args:
        model: FP32 or quantised ONNX that keeps the contract and is float32 where it is not
            quantised; of opset 19 if it is quantised, the first with float16 scales.
        precision: The type.
        keep: Names of nodes that shall compute in FP32. In FP16, a node with a weight that does not
            fit is kept without being asked.

    Returns:
        A new model and its spec, whose exceptions name the nodes that were kept.

    Raises:
        OnnxError: the model is not FP32, or it is quantised and shall become BF16.
        ValueError: `keep` names a node that there is not.
    """
    if (spec.float_precision or spec.precision) != "fp32":
        raise OnnxError(f"{spec.model} is {spec.precision} already; start from the FP32 ONNX")
    if precision == "bf16" and spec.float_precision is not None:
        raise OnnxError(
            f"{spec.model} is {spec.precision}, whose rest can be fp16 or fp32 but not bf16, which "
            "does not have its scales"
        )
    unknown = sorted(keep - {node.name for node in model.graph.node})
    if unknown:
        raise ValueError(f"{spec.model} has no node {unknown[0]!r} to keep in FP32")
    if precision == "fp16":
        keep = keep | _with_weights_beyond_fp16(model.graph)
    typed = copy_in_opset(model, max(_HALVES[precision].opset, opset_of(model)))
    _Typer(typed.graph, keep, precision).write()
    exceptions: dict[str, Precision] = dict.fromkeys(spec.exceptions, precision)
    exceptions |= {node.name: "fp32" for node in model.graph.node if node.name in keep}
    typed_spec = (
        replace(spec, precision=precision, exceptions=exceptions)
        if spec.float_precision is None
        else replace(spec, float_precision=precision, exceptions=exceptions)
    )
    return finish_network(typed, typed_spec), typed_spec


def _with_weights_beyond_fp16(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that read a float constant with a value beyond float16."""
    large = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == _FLOAT
        and np.abs(onnx.numpy_helper.to_array(tensor)).max(initial=0) > FP16_MAX
    }
    return {node.name for node in graph.node if large.intersection(node.input)}


class _Typer:
    """Gives every float tensor of a graph its type, in place.

    Args:
        graph: With the type of every tensor declared.
        keep: Names of the nodes that compute in FP32.
        precision: What the others compute in.
    """

    def __init__(self, graph: onnx.GraphProto, keep: Set[str], precision: HalfPrecision) -> None:
        self.graph = graph
        self.keep = keep
        self.precision = precision
        self.half = _HALVES[precision]
        self.weights = {t.name: t for t in graph.initializer if t.data_type == _FLOAT}
        values = (*graph.input, *graph.output, *graph.value_info)
        self.floats = {v.name for v in values if v.type.tensor_type.elem_type == _FLOAT}
        self.scales = _scales(graph, self.floats)
        # By what a tensor was called and whether it is wanted in FP32: what it is called now.
        self.names = {(INPUT_NAME, True): INPUT_NAME}
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [t for t in graph.initializer if t.name not in self.weights]

    def write(self) -> None:
        """Write each node behind the Casts that it is the first to need."""
        for node in self.graph.node:
            is_full = node.name in self.keep or not self.scales.isdisjoint(node.output)
            for index, name in enumerate(node.input):
                if name in self.weights or name in self.floats:
                    node.input[index] = self._in_type(name, full=is_full or _is_scale(node, index))
            self._declare(node, full=is_full)
            self.nodes.append(node)
        self._in_type(OUTPUT_NAME, full=True)
        replace_content(self.graph, self.nodes, self.constants)

    def _in_type(self, name: str, *, full: bool) -> str:
        """What a tensor is called in this type; made on first use, from the type it is in."""
        if (name, full) not in self.names:
            other = self.names.get((name, not full))
            self.names[name, full] = (
                self._weight(name, is_second=other is not None, full=full)
                if name in self.weights
                else self._cast(name, str(other), full=full)
            )
        return self.names[name, full]

    def _weight(self, name: str, *, is_second: bool, full: bool) -> str:
        """Add a weight; only one that is needed in both types changes its name."""
        target = self._suffixed(name, full=full) if is_second else name
        values = onnx.numpy_helper.to_array(self.weights[name])
        kind = _FLOAT if full else self.half.onnx
        data = values.astype(np.float32 if full else self.half.numpy).tobytes()
        self.constants.append(onnx.helper.make_tensor(target, kind, values.shape, data, raw=True))
        return target

    def _cast(self, name: str, source: str, *, full: bool) -> str:
        target = name if full and name == OUTPUT_NAME else self._suffixed(name, full=full)
        to = _FLOAT if full else self.half.onnx
        self.nodes.append(onnx.helper.make_node("Cast", [source], [target], name=target, to=to))
        return target

    def _suffixed(self, name: str, *, full: bool) -> str:
        return f"{name}.{'fp32' if full else self.precision}"

    def _declare(self, node: onnx.NodeProto, *, full: bool) -> None:
        """Note the types of what a node makes, and set the one that it states itself."""
        for index, name in enumerate(node.output):
            if name == OUTPUT_NAME and not full:
                node.output[index] = self._suffixed(name, full=False)
            self.names[name, full] = node.output[index]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == _FLOAT and not full:
                attribute.i = self.half.onnx


def _scales(graph: onnx.GraphProto, floats: Set[str]) -> set[str]:
    """The tensors that are the scales of a Resize, or become them."""
    producers = {name: node for node in graph.node for name in node.output}
    waiting = [
        name for node in graph.node for i, name in enumerate(node.input) if _is_scale(node, i)
    ]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in producers and name in floats and name not in found:
            found.add(name)
            waiting += producers[name].input
    return found


def _is_scale(node: onnx.NodeProto, index: int) -> bool:
    """Whether an input is the region or the scales of a Resize, where rounding moves pixels."""
    return node.op_type == "Resize" and index in (1, 2)
