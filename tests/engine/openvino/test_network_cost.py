"""GMAC and bytes of an ONNX file, against those that are counted without it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.engine.openvino.network_cost import network_cost  # noqa: E402
from fcn_trt.errors import EngineError  # noqa: E402
from fcn_trt.model.architecture import architecture  # noqa: E402
from fcn_trt.model.profile import profile  # noqa: E402
from fcn_trt.precision.type_network import type_network  # noqa: E402
from fcn_trt.spec import ShapeRange, read_spec  # noqa: E402
from tests.plans import as_network, export_network  # noqa: E402


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """fcn_r18-d8 with all of its channels."""
    path = tmp_path_factory.mktemp("cost") / "r18.onnx"
    export_network("fcn_r18-d8", path, size=(64, 128), weights="random")
    return path


def test_cost_is_that_of_the_profile(network):
    found = network_cost(as_network(network, read_spec(network)))
    known = profile(architecture("fcn_r18-d8"), size=(64, 128))
    assert found.gmac == pytest.approx(known.gmac, rel=1e-9)
    assert found.written_bytes == sum(stage.activation_bytes for stage in known.stages)


def test_weights_are_those_of_the_convolutions(tiny_network, tiny_model):
    found = network_cost(as_network(tiny_network, read_spec(tiny_network)))
    weights = [m.weight for m in tiny_model.module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert found.weight_bytes == 4 * sum(weight.numel() for weight in weights)


def test_what_is_read_is_the_input_of_each_convolution(tiny_network, tiny_model):
    read = 0

    def count(_layer, inputs, _output):
        nonlocal read
        read += 4 * inputs[0].numel()

    layers = [m for m in tiny_model.module.modules() if isinstance(m, torch.nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        tiny_model.module(torch.zeros(1, 3, 64, 96))
    for hook in hooks:
        hook.remove()
    found = network_cost(as_network(tiny_network, read_spec(tiny_network)))
    assert found.read_bytes == read
    assert found.moved_bytes == found.weight_bytes + read + found.written_bytes


def test_half_the_width_moves_half_the_bytes(tiny_network, tmp_path):
    spec = type_network(as_network(tiny_network), tmp_path / "bf16.onnx", "bf16").spec
    full = network_cost(as_network(tiny_network, read_spec(tiny_network)))
    half = network_cost(as_network(tmp_path / "bf16.onnx", spec))
    assert half.gmac == full.gmac
    assert 2 * half.moved_bytes == full.moved_bytes


def test_dynamic_network_is_counted_at_what_it_is_optimised_for(tiny_model, tmp_path):
    from tests.plans import export_model

    allowed = ShapeRange(min_size=(32, 32), max_size=(128, 128), min_batch=1, max_batch=4)
    spec = export_model(tiny_model, tmp_path / "d.onnx", size=(64, 96), batch=2, dynamic=allowed)
    one = export_model(tiny_model, tmp_path / "f.onnx", size=(64, 96))
    found = network_cost(as_network(tmp_path / "d.onnx", spec))
    assert found.gmac == pytest.approx(2 * network_cost(as_network(tmp_path / "f.onnx", one)).gmac)


def test_file_that_is_no_network_is_one_sentence(tiny_network, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(EngineError, match=r"cannot read .*x\.onnx"):
        network_cost(as_network(tmp_path / "x.onnx", read_spec(tiny_network)))
