"""FP32 ONNX to typed BF16 ONNX.

Every weight is BF16, with a Cast behind the input and one before the output, so that both ends of
the contract stay float32. BF16 has float32's range, so nothing has to be kept back.
"""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx

from fcn_trt.errors import OnnxError
from fcn_trt.export.network import finish_network
from fcn_trt.spec import INPUT_NAME, OUTPUT_NAME, Spec

__all__ = ["to_bf16"]

OPSET = 22
"""The first in which ONNX declares BF16 for Conv, MaxPool and their like."""


def to_bf16(model: onnx.ModelProto, spec: Spec) -> tuple[onnx.ModelProto, Spec]:
    """Type an FP32 network as BF16.

    Args:
        model: FP32 ONNX that keeps the contract.
        spec: Its spec.

    Returns:
        A new model and its spec; the input and output stay float32.

    Raises:
        OnnxError: the model is not FP32.
    """
    if spec.precision != "fp32":
        raise OnnxError(f"{spec.model} is {spec.precision} already; start from the FP32 ONNX")
    typed = onnx.version_converter.convert_version(model, OPSET)
    graph = typed.graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
            tensor.CopyFrom(_bf16_tensor(tensor.name, values))
    inside, outside = f"{INPUT_NAME}.bf16", f"{OUTPUT_NAME}.bf16"
    for node in graph.node:
        node.input[:] = [inside if name == INPUT_NAME else name for name in node.input]
        node.output[:] = [outside if name == OUTPUT_NAME else name for name in node.output]
    graph.node.insert(0, _cast(INPUT_NAME, inside, onnx.TensorProto.BFLOAT16))
    graph.node.append(_cast(outside, OUTPUT_NAME, onnx.TensorProto.FLOAT))
    typed_spec = replace(spec, precision="bf16")
    return finish_network(typed, typed_spec), typed_spec


def _bf16_tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return onnx.helper.make_tensor(
        name, onnx.TensorProto.BFLOAT16, values.shape, values.tobytes(), raw=True
    )


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=target, to=to)
