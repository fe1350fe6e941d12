"""A product of matrices in one type on the CPU: as fast as OpenVINO computes anything there.

Activations go through some square layers one after the other, so that what is paid once per
inference weighs little; each layer's result goes into the next in the type that is asked for.

Source: OpenVINO, "Low precision transformations"; the runtime model's runtimePrecision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13

from fcn_trt.engine.openvino.builder import (
    compile_on_cpu,
    cpu_name,
    openvino_errors,
    require_computed,
)
from fcn_trt.errors import EngineError
from fcn_trt.spec import Precision

__all__ = ["SHAPES", "MatrixProduct", "ProductShape", "matrix_product"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductShape:
    """How large a product is.

    Attributes:
        rows: Of the activations.
        width: Columns of the activations; each layer's weights are width x width.
        layers: How many stand in a row.
    """

    rows: int
    width: int
    layers: int

    @property
    def gmac(self) -> float:
        """1e9 multiply-accumulates of one inference."""
        return self.rows * self.width * self.width * self.layers / 1e9


SHAPES = (
    ProductShape(rows=512, width=512, layers=1),
    ProductShape(rows=512, width=512, layers=4),
    ProductShape(rows=256, width=512, layers=8),
    ProductShape(rows=256, width=1024, layers=4),
    ProductShape(rows=4096, width=1024, layers=1),
)
"""Which of them is fastest depends on caches and on the number of cores."""

_RUNTIME_TYPES: dict[Precision, tuple[str, ...]] = {
    "fp32": ("f32",),
    "fp16": ("f16",),
    "bf16": ("bf16",),
    "int8": ("u8", "i8"),
}
_TYPES = {"fp32": ov.Type.f32, "fp16": ov.Type.f16, "bf16": ov.Type.bf16, "int8": ov.Type.f32}
_PRODUCTS = ("FullyConnected", "MatMul", "Gemm")
_LARGEST_CODE, _LARGEST_WEIGHT = 255.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixProduct:
    """A product that is ready to be computed.

    Attributes:
        shape: How large it is.
        request: openvino.InferRequest, with its input in it.
    """

    shape: ProductShape
    request: Any

    def compute(self) -> None:
        """Compute it once, and wait.

        Raises:
            EngineError: OpenVINO cannot.
        """
        with openvino_errors("compute a matrix product"):
            self.request.infer()


def matrix_product(shape: ProductShape, precision: Precision) -> MatrixProduct:
    """Compile a product for this CPU, and check that it is computed in the type asked for.

    Args:
        precision: What it multiplies; "int8" is u8 times s8, as in a quantised network.

    Raises:
        EngineError: this CPU does not compute it in that type.
    """
    if precision not in _RUNTIME_TYPES:
        raise EngineError(f"no product in {precision} is computed on a CPU; choose fp32 or int8")
    require_computed(precision)
    with openvino_errors(f"compile a matrix product in {precision}"):
        compiled = compile_on_cpu(
            _model(shape, precision),
            {"INFERENCE_PRECISION_HINT": "dynamic", "PERFORMANCE_HINT": "LATENCY"},
        )
        _require_type(compiled, shape, precision)
        request = compiled.create_infer_request()
        request.set_input_tensor(_input(shape, precision))
    return MatrixProduct(shape=shape, request=request)


def _model(shape: ProductShape, precision: Precision) -> Any:
    """openvino.Model of the layers."""
    image = opset13.parameter([shape.rows, shape.width], _TYPES[precision])
    rng = np.random.default_rng(0)
    features = _codes(image) if precision == "int8" else image
    for _ in range(shape.layers):
        # Of a size that neither grows nor shrinks what passes, and with a code for each value.
        codes = rng.integers(-127, 128, (shape.width, shape.width)).astype(np.float32) / 127
        if precision == "int8":
            weights = _quantised(opset13.constant(codes), -_LARGEST_WEIGHT, _LARGEST_WEIGHT, 255)
        else:
            scaled = opset13.constant(codes * np.float32(math.sqrt(6 / shape.width)))
            weights = scaled if precision == "fp32" else opset13.convert(scaled, _TYPES[precision])
        features = opset13.relu(opset13.matmul(features, weights, False, False))
        if precision == "int8":
            features = _codes(features)
    return ov.Model([features], [image], f"product_{precision}")


def _codes(tensor: Any) -> Any:
    """A tensor in u8."""
    return _quantised(tensor, 0.0, _LARGEST_CODE, 256)


def _quantised(tensor: Any, low: float, high: float, levels: int) -> Any:
    ends = [np.float32(low), np.float32(high)]
    return opset13.fake_quantize(tensor, *ends, *ends, levels)


def _input(shape: ProductShape, precision: Precision) -> Any:
    """openvino.Tensor of ones: no value that a CPU is slow with, as it is with denormal ones."""
    sides = [shape.rows, shape.width]
    if precision in ("fp16", "bf16"):
        ones = np.full(sides, 0x3C00 if precision == "fp16" else 0x3F80, dtype=np.uint16)
        tensor = ov.Tensor(_TYPES[precision], sides)
        # This constructor only borrows the array's memory, which is gone after this function.
        ov.Tensor(ones, sides, _TYPES[precision]).copy_to(tensor)
        return tensor
    return ov.Tensor(np.ones(sides, dtype=np.float32))


def _require_type(compiled: Any, shape: ProductShape, precision: Precision) -> None:
    """Refuse a product that is computed in another type than asked, as its speed says nothing."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    found = [
        info["runtimePrecision"].value for info in infos if info["layerType"].value in _PRODUCTS
    ]
    wrong = sorted({kind for kind in found if kind not in _RUNTIME_TYPES[precision]})
    if wrong or len(found) != shape.layers:
        kinds = ", ".join(wrong) or f"{len(found)} of {shape.layers} layers"
        raise EngineError(
            f"a product in {precision} was asked for, but OpenVINO computes it in {kinds} on this "
            f"CPU ({cpu_name()}); choose another precision"
        )
