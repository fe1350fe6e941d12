"""The layers of ONNX files, against those that are counted without a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")
pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.advice.network import peak_activations  # noqa: E402
from fcn_trt.engine.openvino.network_layers import NetworkFile  # noqa: E402
from fcn_trt.errors import EngineError, OnnxError  # noqa: E402
from fcn_trt.model.architecture import architecture  # noqa: E402
from fcn_trt.model.layers import layers  # noqa: E402
from tests.plans import export_network, save  # noqa: E402

SIZE = (64, 128)

Node = tuple[str, list[str], list[str], dict[str, Any]]
"""Operator, inputs, outputs and attributes."""


@pytest.fixture(scope="module")
def r18(tmp_path_factory):
    """fcn_r18-d8 with all of its channels."""
    path = tmp_path_factory.mktemp("layers") / "r18.onnx"
    export_network("fcn_r18-d8", path, size=SIZE, weights="random")
    return NetworkFile(path)


def graph(path: Path, nodes: list[Node], image: list[Any], constants: Any = ()) -> Path:
    """Write an ONNX file of one input "x" and one output "y"; constants by name, their shape."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    tensors = [
        helper.make_tensor(name, kind, shape, [0.5] * math.prod(shape))
        for name, shape in dict(constants).items()
    ]
    made = helper.make_graph(
        [helper.make_node(node[0], node[1], node[2], **node[3]) for node in nodes],
        "graph",
        [helper.make_tensor_value_info("x", kind, image)],
        [helper.make_tensor_value_info("y", kind, None)],
        tensors,
    )
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(made, opset_imports=[opset], ir_version=9), path)
    return path


@pytest.mark.parametrize("size", [SIZE, (256, 512)])
def test_layers_of_a_file_are_those_of_its_architecture(r18, size):
    found = r18.layers(size)
    known = layers(architecture("fcn_r18-d8"), size=size, num_classes=19)
    for kind in ("convolution", "max pooling", "addition", "concatenation"):
        here, there = (
            sorted(
                (one.macs, one.weights, one.read, one.written, one.outputs, one.output_size)
                for one in counted
                if one.kind == kind
            )
            for counted in (found.layers, known)
        )
        assert here == there
    assert len(found.layers) == len(known)
    assert found.peak_activations == peak_activations(known)


def test_size_is_the_files_own(r18, tmp_path):
    assert r18.size == SIZE
    node: Node = ("Relu", ["x"], ["y"], {})
    assert NetworkFile(graph(tmp_path / "any.onnx", [node], [1, 3, "h", "w"])).size is None
    last = NetworkFile(graph(tmp_path / "last.onnx", [node], ["n", 32, 48, 3]))
    assert last.size == (32, 48)
    assert last.layers((8, 8)).layers == ()


def test_layers_that_no_fcn_has_keep_their_own_name(tmp_path):
    nodes: list[Node] = [
        ("Conv", ["x", "w"], ["a"], {"group": 3, "kernel_shape": [1, 3], "pads": [0, 1, 0, 1]}),
        ("Sigmoid", ["a"], ["b"], {}),
        ("Mul", ["x", "b"], ["c"], {}),
        ("Softmax", ["c"], ["y"], {"axis": 1}),
    ]
    path = graph(tmp_path / "odd.onnx", nodes, [1, 3, 8, 16], {"w": (3, 1, 1, 3)})
    grouped, joined, soft = NetworkFile(path).layers((8, 16)).layers
    assert (grouped.kind, joined.kind, soft.kind) == ("GroupConvolution", "addition", "Softmax")
    assert (grouped.macs, grouped.weights) == (3 * 3 * 8 * 16, 9)
    assert (joined.read, joined.written, joined.macs) == (2 * 384, 384, 0)
    assert soft.output_size == (8, 16)


def test_product_of_matrices_counts_its_sums(tmp_path):
    nodes: list[Node] = [("Flatten", ["x"], ["a"], {"axis": 1}), ("MatMul", ["a", "w"], ["y"], {})]
    path = graph(tmp_path / "matmul.onnx", nodes, [1, 3, 4, 4], {"w": (48, 10)})
    product = NetworkFile(path).layers((4, 4)).layers[-1]
    assert (product.kind, product.macs, product.outputs) == ("MatMul", 480, 10)


def test_shape_arithmetic_costs_nothing(tmp_path):
    nodes: list[Node] = [
        ("Shape", ["x"], ["s"], {}),
        ("Relu", ["x"], ["r"], {}),
        ("Reshape", ["r", "s"], ["y"], {}),
    ]
    found = NetworkFile(graph(tmp_path / "s.onnx", nodes, [1, 3, 8, 8])).layers((16, 16))
    assert found.layers == ()


def test_file_that_takes_no_image_or_no_such_size_is_refused(tmp_path):
    bad = graph(tmp_path / "bad.onnx", [("Relu", ["x"], ["y"], {})], [1, 7])
    with pytest.raises(EngineError, match=r"bad\.onnx takes \[1,7\], but one input was expected"):
        NetworkFile(bad)
    nodes: list[Node] = [("Add", ["x", "w"], ["y"], {})]
    fixed = graph(tmp_path / "fixed.onnx", nodes, [1, 3, 4, 4], {"w": (1, 3, 4, 4)})
    assert NetworkFile(fixed).layers((4, 4)).layers == ()
    with pytest.raises(EngineError, match=r"cannot take 8x8 through .*fixed\.onnx"):
        NetworkFile(fixed).layers((8, 8))
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(OnnxError, match=r"x\.onnx cannot be read as ONNX"):
        NetworkFile(tmp_path / "x.onnx")
