"""The contract that every ONNX file of this package keeps.

One float32 input `image` (N, 3, H, W) of normalised RGB, one float32 output `logits`
(N, C, h, w) at the network's own stride, static shapes, and the spec in the metadata.

Opset 17 with IR version 8 is what every TensorRT from 10.0 on and OpenVINO read, and what
ONNX Runtime 1.15 and later run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError  # onnx.load raises it; onnx depends on it

from fcn_trt.errors import OnnxError
from fcn_trt.files import write_atomic
from fcn_trt.spec import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, Spec, read_spec

__all__ = ["OPSET", "finish_network", "load_network", "load_onnx", "save_network"]

OPSET = 17
IR_VERSION = 8


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read any ONNX file, external weights included.

    Raises:
        OnnxError: it is missing, damaged, or no ONNX file.
    """
    try:
        model = onnx.load(path)
    except OSError as error:
        raise OnnxError(f"{path} cannot be read as ONNX: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise OnnxError(
            f"{path} cannot be read as ONNX: {_first_line(error)}; fetch or export it again"
        ) from error
    if not model.graph.output:
        raise OnnxError(f"{path} cannot be read as ONNX: it has no graph with an output")
    return model


def load_network(path: Path) -> tuple[onnx.ModelProto, Spec]:
    """Read an ONNX file that keeps the contract, and its spec.

    Raises:
        OnnxError: it is damaged, or was not written by this package.
    """
    spec = read_spec(path)
    return load_onnx(path), spec


def finish_network(model: onnx.ModelProto, spec: Spec) -> onnx.ModelProto:
    """Stamp a graph with its spec, infer every shape, and check that it keeps the contract.

    Raises:
        OnnxError: the graph does not keep it.
    """
    model.ir_version = IR_VERSION
    model.producer_name = "fcn_trt"
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=spec.to_json())
    del model.graph.value_info[:]
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise OnnxError(f"the graph of {spec.model} is not sound: {_first_line(error)}") from error
    wanted = {
        INPUT_NAME: (spec.batch, 3, *spec.input_size),
        OUTPUT_NAME: (spec.batch, len(spec.classes), *spec.logits_size),
    }
    found = {v.name: tensor_shape(v) for v in (*model.graph.input, *model.graph.output)}
    if found != wanted:
        raise OnnxError(f"the graph of {spec.model} has {found}, but its spec says {wanted}")
    return model


def save_network(model: onnx.ModelProto, path: Path) -> None:
    """Write the file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomic(path, model.SerializeToString())


def tensor_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The static shape of a graph input or output; 0 where a side is dynamic."""
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def image_value(spec: Spec) -> onnx.ValueInfoProto:
    """The declaration of the input."""
    shape = (spec.batch, 3, *spec.input_size)
    return onnx.helper.make_tensor_value_info(INPUT_NAME, onnx.TensorProto.FLOAT, shape)


def logits_value(spec: Spec) -> onnx.ValueInfoProto:
    """The declaration of the output."""
    shape = (spec.batch, len(spec.classes), *spec.logits_size)
    return onnx.helper.make_tensor_value_info(OUTPUT_NAME, onnx.TensorProto.FLOAT, shape)


def initializer(name: str, values: npt.NDArray[np.float32]) -> onnx.TensorProto:
    """A float32 constant of the graph."""
    return onnx.numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), name)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:160]
