"""A wide INT8 network that is transposed gives the same logits."""

from dataclasses import replace

import numpy as np
import pytest

from fcn_trt.engine.openvino import transpose
from fcn_trt.engine.openvino.builder import compile_network, openvino_core
from fcn_trt.engine.openvino.transpose import transpose_wide
from tests.plans import as_network, save

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")


@pytest.fixture
def quantised(tiny_network, tmp_path):
    """The tiny network in INT8, and its spec."""
    from fcn_trt.network.contract import load_network
    from fcn_trt.precision.quantize import quantize_network

    model, spec = load_network(tiny_network)
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    made, made_spec = quantize_network(model, spec, "int8", dict.fromkeys(names, 4.0))
    save(made, tmp_path / "q.onnx")
    return tmp_path / "q.onnx", made_spec


def test_logits_are_the_same(quantised, monkeypatch):
    network, spec = quantised  # 64x96: logits of 8x12
    image = np.random.default_rng(0).normal(0, 1, (1, 3, 64, 96)).astype(np.float32)
    upright = compile_network(as_network(network, spec))
    monkeypatch.setattr(transpose, "FAST_WIDTH", 10)
    assert transpose_wide(openvino_core().read_model(network), spec)
    turned = compile_network(as_network(network, spec))
    assert turned.proof == upright.proof
    expected, found = upright.model(image)[0], turned.model(image)[0]
    assert found.shape == expected.shape == (1, 3, 8, 12)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_what_is_not_wide_or_not_int8_stays_upright(quantised, monkeypatch):
    network, spec = quantised
    assert not transpose_wide(openvino_core().read_model(network), spec)
    monkeypatch.setattr(transpose, "FAST_WIDTH", 7)  # higher than that, too
    assert not transpose_wide(openvino_core().read_model(network), spec)
    monkeypatch.setattr(transpose, "FAST_WIDTH", 10)
    fp32 = replace(spec, precision="fp32")
    assert not transpose_wide(openvino_core().read_model(network), fp32)


def test_what_is_not_symmetric_stays_upright(quantised, monkeypatch):
    onnx = pytest.importorskip("onnx")
    network, spec = quantised
    model = onnx.load(network)
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    for attribute in pool.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [1, 0, 1, 2]
    del model.graph.value_info[:]
    onnx.save(model, network)
    monkeypatch.setattr(transpose, "FAST_WIDTH", 10)
    assert not transpose_wide(openvino_core().read_model(network), spec)
