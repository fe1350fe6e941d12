"""Codes counted from 0 have the values that ONNX prescribes."""

import numpy as np
import pytest

from fcn_trt.engine.openvino.builder import openvino_core
from fcn_trt.engine.openvino.zero_points import drop_zero_points

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

SCALE = 1 / 64  # values beyond 127 / 64 are cut off


def network_of(path, operators):
    """Operators from "image" on, then Q/DQ and a convolution that keeps each channel."""
    nodes, name = [], "image"
    for place, (kind, attributes) in enumerate(operators):
        inputs = [name, name] if kind == "Concat" else [name]
        nodes.append(onnx.helper.make_node(kind, inputs, [f"t{place}"], **attributes))
        name = f"t{place}"
    channels = 4 << sum(kind == "Concat" for kind, _ in operators)
    nodes += [
        onnx.helper.make_node("QuantizeLinear", [name, "scale", "zero"], ["codes"]),
        onnx.helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["values"]),
        onnx.helper.make_node("DequantizeLinear", ["eye", "one", "zero"], ["weights"]),
        onnx.helper.make_node("Conv", ["values", "weights"], ["logits"]),
    ]
    constants = {
        "scale": np.float32(SCALE),
        "one": np.float32(1),
        "zero": np.int8(0),
        "eye": np.eye(channels, dtype=np.int8)[..., None, None],
    }
    graph = onnx.helper.make_graph(
        nodes,
        "one",
        [onnx.helper.make_tensor_value_info("image", 1, [1, 4, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", 1, [1, channels, None, None])],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    return path


RELU: tuple[str, dict[str, object]] = ("Relu", {})
POOL = ("MaxPool", {"kernel_shape": [2, 2]})
CONCAT = ("Concat", {"axis": 1})


@pytest.mark.parametrize(
    ("operators", "unsigned"),
    [([RELU], 1), ([RELU, POOL], 1), ([RELU, CONCAT], 1), ([("Neg", {})], 0), ([POOL], 0)],
    ids=["relu", "max-pooling", "concatenation", "signed", "signed max-pooling"],
)
def test_values_are_those_of_onnxruntime(tmp_path, operators, unsigned):
    network = network_of(tmp_path / "n.onnx", operators)
    codes = np.random.default_rng(0).integers(-400, 400, (1, 4, 8, 8)).astype(np.float32)
    image = codes * np.float32(SCALE) * np.float32(0.53)  # no two codes apart, and far beyond
    expected = onnxruntime.InferenceSession(network).run(None, {"image": image})[0]
    assert expected.max() == 127 * SCALE
    model = openvino_core().read_model(network)
    assert drop_zero_points(model) == unsigned
    config = {"INFERENCE_PRECISION_HINT": "dynamic"}
    found = openvino_core().compile_model(model, "CPU", config)(image)[0]
    assert np.array_equal(found, expected)


def test_convolutions_have_no_zero_point(tmp_path):
    model = openvino_core().read_model(network_of(tmp_path / "n.onnx", [RELU]))
    drop_zero_points(model)
    kinds = {str(op.output(0).get_element_type()) for op in model.get_ops()}
    assert any("uint8" in kind for kind in kinds)
    codes = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    assert [limit.get_node().data.item() for limit in codes[0].input_values()[3:]] == [0, 255]
