"""Products of matrices are computed in the type that is asked for, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcn_trt.engine.openvino import matrix_product as module
from fcn_trt.engine.openvino.builder import computes, openvino_core
from fcn_trt.engine.openvino.matrix_product import ProductShape, matrix_product
from fcn_trt.errors import EngineError

SMALL = ProductShape(rows=32, width=64, layers=2)


def test_work_of_a_shape_is_rows_by_width_squared_by_layers():
    assert SMALL.gmac == 32 * 64 * 64 * 2 / 1e9


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_layers_are_multiplied_in_the_type_that_is_asked_for(precision):
    if not computes(precision):
        with pytest.raises(EngineError, match=f"{precision} was asked for"):
            matrix_product(SMALL, precision)
        return
    product = matrix_product(SMALL, precision)
    product.compute()
    kinds = [
        info["runtimePrecision"].value
        for node in product.request.get_compiled_model().get_runtime_model().get_ops()
        for info in [node.get_rt_info()]
        if info["layerType"].value in ("FullyConnected", "MatMul", "Gemm")
    ]
    assert len(kinds) == 2
    assert (
        set(kinds)
        <= {"fp32": {"f32"}, "int8": {"u8", "i8"}, "bf16": {"bf16"}, "fp16": {"f16"}}[precision]
    )


def test_fp32_product_is_that_of_numpy():
    product = matrix_product(SMALL, "fp32")
    product.compute()
    model = module._model(SMALL, "fp32")
    features = np.ones((32, 64), dtype=np.float32)
    for op in model.get_ordered_ops():
        if op.get_type_name() == "MatMul":
            weights = op.input_value(1).get_node().get_data()
            features = np.maximum(features @ weights, 0)
    np.testing.assert_allclose(
        product.request.get_output_tensor().data, features, rtol=1e-4, atol=1e-5
    )
    assert 0.1 < np.abs(features).mean() < 10  # what passes neither grows nor shrinks


def test_product_in_another_type_than_asked_is_refused():
    shape = ProductShape(rows=32, width=64, layers=1)
    model: Any = module._model(shape, "fp32")
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with pytest.raises(EngineError, match="int8 was asked for, but OpenVINO computes it in f32"):
        module._require_type(compiled, shape, "int8")
    with pytest.raises(EngineError, match="computes it in 1 of 3 layers"):
        module._require_type(compiled, ProductShape(rows=32, width=64, layers=3), "fp32")


def test_fp8_is_no_type_of_a_cpu():
    with pytest.raises(EngineError, match="no product in fp8 is computed on a CPU"):
        matrix_product(SMALL, "fp8")
