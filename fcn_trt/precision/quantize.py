"""FP32 ONNX to ONNX with explicit Q/DQ, placed where TensorRT fuses it.

What is quantised, and why there:

- Every convolution reads its activation through Q/DQ and its weights through DQ: TensorRT computes
  a convolution in INT8 or FP8 exactly if it finds a DequantizeLinear in front of both.
- Activations have one scale per tensor, weights one per output channel: axis 0, or axis 1 of a
  transposed convolution. Other axes, and per-channel activations, compile to slow generic kernels.
- All is symmetric: zero points are 0, because TensorRT takes no others.
- A residual addition reads its skip branch through Q/DQ, and the branch that comes from the
  convolution directly: then convolution, addition and ReLU are one kernel that writes INT8.
- ReLU and max-pooling have none of their own. Both commute with Q, so that TensorRT moves the Q
  that stands in front of the next convolution back over them into the kernel that wrote the tensor.
- All inputs of a concatenation have the scale of its output, so that Q moves over it too.
- Biases and logits stay in floating point: a bias is added to the 32-bit sum, and argmax needs what
  the last convolution made.
- A tensor that several nodes read has one Q/DQ pair, which they share.
- FP8 leaves convolutions of few channels and of large kernels in floating point, as ModelOpt does:
  TensorRT has no FP8 kernels for them. The first is one of them, whose image costs E4M3 most.

Weights are stored as their codes, which are a quarter of float32's size and the same on every
target. All scales are numbers that float16 has, rounded up so that nothing more is clipped: the
network whose rest is float16 and the one whose rest is float32 have the same codes and scales, and
what one is measured to predict holds for the other.

The opset is 17, or 19 where it has to be: the first with float16 scales and with FP8.

Sources: TensorRT Developer Guide, "Working with Quantized Types" and "Q/DQ Layer-Placement
Recommendations"; NVIDIA ModelOpt, modelopt/onnx/quantization (a2fbac7b); tensorflow-quantization,
"Add custom Q/DQ cases" (v9.3.0); NVIDIA/TensorRT issue 3987 on FP8's kernels; ONNX operators
QuantizeLinear and DequantizeLinear.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx

from fcn_trt.errors import CalibrationError, OnnxError
from fcn_trt.network.contract import OPSET, copy_in_opset, finish_network, replace_content
from fcn_trt.precision.half import to_half
from fcn_trt.precision.qdq import (
    WEIGHT_AXIS,
    QdqNodes,
    concatenated,
    convolution_names,
    find_qdq_nodes,
)
from fcn_trt.spec import FloatPrecision, Precision, QuantisedPrecision, Spec

__all__ = ["QUANTISED_OPSET", "quantize_and_type", "quantize_network"]

QUANTISED_OPSET = 19
"""The first opset whose Q and DQ have float16 scales and FP8."""

LEAST_SCALE = 2.0**-24
"""The smallest positive float16; scales must be positive, also of a channel that is all zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    """What a quantised number is stored as."""

    onnx: int
    numpy: npt.DTypeLike
    largest: float

    def encode(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        """Codes of values that were divided by their scale; halves go to even."""
        clipped = np.clip(values, -self.largest, self.largest)
        if self.numpy == np.int8:
            clipped = np.rint(clipped)
        return clipped.astype(self.numpy)


_CODES: dict[QuantisedPrecision, _Code] = {
    "int8": _Code(onnx=onnx.TensorProto.INT8, numpy=np.int8, largest=127),
    "fp8": _Code(onnx=onnx.TensorProto.FLOAT8E4M3FN, numpy=ml_dtypes.float8_e4m3fn, largest=448),
}


def quantize_network(
    model: onnx.ModelProto,
    spec: Spec,
    precision: QuantisedPrecision,
    amaxes: Mapping[str, float],
    *,
    keep: Set[str] = frozenset(),
    opset: int = OPSET,
) -> tuple[onnx.ModelProto, Spec]:
    """Insert Q/DQ into an FP32 network; what is not quantised stays float32.

    Args:
        model: FP32 ONNX that keeps the contract.
        amaxes: By tensor, the magnitude that becomes the largest code.
        keep: Names of convolutions that shall stay in floating point, and of additions. The
            addition behind such a convolution is not quantised either, as there would be no INT8
            kernel for it to be part of.
        opset: Of the result; at least 19 for FP8, and where float16 scales shall follow.

    Returns:
        A new model and its spec, whose exceptions name the convolutions that were kept.

    Raises:
        OnnxError: the model is not FP32, or none of its convolutions can be quantised.
        CalibrationError: the range of a tensor is not known.
        ValueError: `keep` names neither a convolution nor an addition of the network.
    """
    if spec.precision != "fp32":
        raise OnnxError(f"{spec.model} is {spec.precision} already; start from the FP32 ONNX")
    names = [node.name for node in model.graph.node if node.op_type in WEIGHT_AXIS]
    additions = {node.name for node in model.graph.node if node.op_type == "Add"}
    unknown = sorted(keep - additions.union(names))
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        meant = f"; did you mean {near[0]}?" if near else "; `fcn-trt sensitivity` lists them"
        raise ValueError(f"{spec.model} has no convolution {unknown[0]!r} to keep in float{meant}")
    quantised = copy_in_opset(model, QUANTISED_OPSET if precision == "fp8" else opset)
    chosen = find_qdq_nodes(
        quantised.graph, set(convolution_names(model.graph, precision)) - keep, keep
    )
    if not chosen.convolutions:
        raise OnnxError(f"{spec.model} has no convolution left to quantise; ask for fp16 instead")
    scales = _scales(quantised.graph, chosen, amaxes, _CODES[precision])
    _Writer(quantised.graph, chosen, scales, _CODES[precision]).write()
    exceptions: dict[str, Precision] = {
        name: "fp32" for name in names if name not in chosen.convolutions
    }
    typed = replace(spec, precision=precision, float_precision="fp32", exceptions=exceptions)
    return finish_network(quantised, typed), typed


def quantize_and_type(
    model: onnx.ModelProto,
    spec: Spec,
    precision: QuantisedPrecision,
    amaxes: Mapping[str, float],
    *,
    float_precision: FloatPrecision,
    keep: Set[str] = frozenset(),
    too_large: Set[str] = frozenset(),
) -> tuple[onnx.ModelProto, Spec]:
    """Quantise an FP32 network as `quantize_network` does, and type what is left.

    Args:
        float_precision: Type of what is not quantised.
        too_large: Names of nodes that fp16 cannot hold; with it as the rest they stay in fp32.

    Raises:
        OnnxError, CalibrationError, ValueError: as `quantize_network` says.
    """
    if float_precision == "fp32":
        return quantize_network(model, spec, precision, amaxes, keep=keep)
    # Behind a DQ that is FP16, the skip branch of an addition would be infinite.
    with_q = {
        node.name
        for node in model.graph.node
        if node.name in too_large and node.op_type in (*WEIGHT_AXIS, "Add")
    }
    quantised = quantize_network(
        model, spec, precision, amaxes, keep=keep | with_q, opset=QUANTISED_OPSET
    )
    return to_half(*quantised, "fp16", keep=too_large)


def _scales(
    graph: onnx.GraphProto, chosen: QdqNodes, amaxes: Mapping[str, float], code: _Code
) -> dict[str, float]:
    """The scale of each activation that is quantised, in the order in which they are computed."""
    tensors = dict.fromkeys(
        node.input[index] for node in graph.node if (index := chosen.activation(node)) is not None
    )
    unknown = [name for name in tensors if name not in amaxes]
    if unknown:
        raise CalibrationError(
            f"the calibration does not say how large {unknown[0]!r} gets; calibrate this network "
            "with `fcn-trt calibrate`"
        )
    known = {name: amaxes[name] for name in tensors}
    for group in concatenated(graph, tensors):
        largest = max(amaxes[name] for name in group if name in amaxes)
        known |= {name: largest for name in group if name in known}
    return {name: float(_half_up(amax / code.largest, name)) for name, amax in known.items()}


def _half_up(scale: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """The least float16 that is not below a scale, as float32.

    Args:
        scale: One number, or one per channel.
        name: Of the tensor, for the message.

    Raises:
        OnnxError: no float16 is large enough.
    """
    wanted = np.maximum(np.asarray(scale, np.float64), LEAST_SCALE)
    with np.errstate(over="ignore"):
        half = wanted.astype(np.float16)
        half = np.where(half < wanted, np.nextafter(half, np.float16(np.inf)), half)
    if not np.isfinite(half).all():
        raise OnnxError(
            f"{name!r} is too large to be quantised: its scale is beyond float16; check the "
            "weights with `fcn-trt eval`, or keep its convolution in floating point"
        )
    return half.astype(np.float32)


class _Writer:
    """Puts Q/DQ into a graph, in place.

    Args:
        chosen: Where they go.
        scales: Of the activations.
        code: What quantised numbers are stored as.
    """

    def __init__(
        self, graph: onnx.GraphProto, chosen: QdqNodes, scales: Mapping[str, float], code: _Code
    ) -> None:
        self.graph = graph
        self.chosen = chosen
        self.scales = scales
        self.code = code
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.taken = {name for node in graph.node for name in (node.name, *node.output)}
        self.taken |= {*self.constants, *(value.name for value in graph.input)}
        # By what was quantised, and the axis of its scales: what it is called behind its DQ.
        self.done: dict[tuple[str, int | None], str] = {}

    def write(self) -> None:
        """Write each node behind the Q/DQ that it is the first to read through."""
        for node in self.graph.node:
            index = self.chosen.activation(node)
            if index is not None:
                node.input[index] = self._activation(node.input[index])
            if node.name in self.chosen.convolutions:
                node.input[1] = self._weight(node.input[1], axis=WEIGHT_AXIS[node.op_type])
            self.nodes.append(node)
        read = {name for node in self.nodes for name in node.input}
        used = [tensor for tensor in self.constants.values() if tensor.name in read]
        replace_content(self.graph, self.nodes, used)

    def _activation(self, name: str) -> str:
        """What an activation is called behind its Q/DQ, which is made on first use."""
        if (name, None) not in self.done:
            scale = np.asarray(np.float32(self.scales[name]))
            ends = self._ends(name, scale)
            coded = self._node("QuantizeLinear", [name, *ends], f"{name}.quantized")
            self.done[name, None] = self._node(
                "DequantizeLinear", [coded, *ends], f"{name}.dequantized"
            )
        return self.done[name, None]

    def _weight(self, name: str, *, axis: int) -> str:
        """What weights are called behind their DQ; they themselves stay for who else reads them."""
        if (name, axis) not in self.done:
            values = onnx.numpy_helper.to_array(self.constants[name]).astype(np.float32)
            others = tuple(i for i in range(values.ndim) if i != axis)
            scale = _half_up(np.abs(values).max(axis=others) / self.code.largest, name)
            codes = self.code.encode(values / np.expand_dims(scale, others))
            coded = self._constant(f"{name}.quantized", codes.shape, codes.tobytes())
            ends = self._ends(name, scale)
            self.done[name, axis] = self._node(
                "DequantizeLinear", [coded, *ends], f"{name}.dequantized", axis=axis
            )
        return self.done[name, axis]

    def _ends(self, name: str, scale: npt.NDArray[np.float32]) -> list[str]:
        """Scales, and as many zero points, whose type says what the codes are."""
        made = onnx.numpy_helper.from_array(scale, self._free(f"{name}.scale"))
        self.constants[made.name] = made
        return [made.name, self._constant(f"{name}.zero_point", scale.shape, bytes(scale.size))]

    def _constant(self, name: str, shape: tuple[int, ...], data: bytes) -> str:
        made = onnx.helper.make_tensor(self._free(name), self.code.onnx, shape, data, raw=True)
        self.constants[made.name] = made
        return str(made.name)

    def _node(self, kind: str, inputs: list[str], wanted: str, **attributes: int) -> str:
        name = self._free(wanted)
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _free(self, wanted: str) -> str:
        """A name that nothing else has; an imported network may have any."""
        name = wanted
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name
