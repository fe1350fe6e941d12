"""How large each tensor of a network becomes: run on the CPU, with one number per tensor out.

Every tensor gets an output of its own, ReduceMax(Abs(tensor)), so that what comes back is as small
as the network is long, however large the image is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino import opset13

from fcn_trt.engine.openvino import openvino_core, openvino_errors
from fcn_trt.spec import INPUT_NAME, Spec

__all__ = ["Maxima", "tensor_maxima"]

Maxima: TypeAlias = dict[str, float]
"""By the ONNX name of a float tensor that is no constant: its largest magnitude."""


def tensor_maxima(network: Path, spec: Spec) -> Callable[[npt.NDArray[np.float32]], Maxima]:
    """Make an FP32 network measure its own tensors.

    Args:
        network: The FP32 ONNX file.
        spec: Its spec; a dynamic network is fixed at the shape that it is optimised for.

    Returns:
        A function of (batch, 3, height, width) normalised images that gives the maxima over all of
        them, the input and the logits included, in the order in which they are computed.

    Raises:
        EngineError: OpenVINO cannot compile the network.
    """
    with openvino_errors(f"compile {network}"):
        model = openvino_core().read_model(network)
        if spec.dynamic is not None:
            model.reshape({INPUT_NAME: [spec.batch, 3, *spec.input_size]})
        tensors = [
            port
            for op in model.get_ordered_ops()
            if op.get_type_name() not in ("Constant", "Result")
            for port in op.outputs()
            if port.get_element_type() == ov.Type.f32 and port.get_names()
        ]
        names = [sorted(port.get_names()) for port in tensors]
        before = len(model.outputs)
        model.add_outputs([_maximum(port) for port in tensors])
        compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def measure(images: npt.NDArray[np.float32]) -> Maxima:
        with openvino_errors(f"run {network}"):
            results = compiled(images)
        return {
            name: float(results[before + index])
            for index, aliases in enumerate(names)
            for name in aliases
        }

    return measure


def _maximum(tensor: ov.Output) -> ov.Output:
    axes = np.arange(len(tensor.get_partial_shape()), dtype=np.int64)
    return opset13.reduce_max(opset13.abs(tensor), axes).output(0)
