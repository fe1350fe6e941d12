from dataclasses import replace

import numpy as np
import onnx
import pytest

from fcn_trt.engine.openvino import build_openvino, computes, openvino_core
from fcn_trt.errors import OnnxError
from fcn_trt.export.half import to_bf16
from fcn_trt.export.network import load_network, save_network
from fcn_trt.runtime.segmenter import Segmenter


@pytest.fixture
def fp32(tiny_network):
    return load_network(tiny_network)


@pytest.fixture
def bf16(fp32):
    return to_bf16(*fp32)


def test_every_weight_is_bf16_rounded_to_nearest(fp32, bf16):
    originals = {t.name: onnx.numpy_helper.to_array(t) for t in fp32[0].graph.initializer}
    assert [t.name for t in bf16[0].graph.initializer] == list(originals)
    for tensor in bf16[0].graph.initializer:
        assert tensor.data_type == onnx.TensorProto.BFLOAT16
        values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
        # 8 bits of mantissa: half a step is 2^-9 of the value.
        np.testing.assert_allclose(values, originals[tensor.name], rtol=2**-8, atol=0)


def test_everything_between_the_two_casts_is_bf16(bf16):
    graph = bf16[0].graph
    onnx.checker.check_model(bf16[0], full_check=True)
    casts = [(n.input[0], n.output[0]) for n in graph.node if n.op_type == "Cast"]
    assert casts == [("image", "image.bf16"), ("logits.bf16", "logits")]
    assert [graph.node[0].op_type, graph.node[-1].op_type] == ["Cast", "Cast"]
    types = {v.name: v.type.tensor_type.elem_type for v in graph.value_info}
    assert set(types) == {name for node in graph.node[:-1] for name in node.output}
    assert set(types.values()) == {onnx.TensorProto.BFLOAT16}
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_spec_says_bf16_and_nothing_else_changes(fp32, bf16, tmp_path):
    spec = fp32[1]
    assert bf16[1] == replace(spec, precision="bf16")
    save_network(bf16[0], tmp_path / "n.onnx")
    assert load_network(tmp_path / "n.onnx")[1] == bf16[1]


def test_fp32_model_is_left_as_it_is(fp32):
    before = fp32[0].SerializeToString()
    to_bf16(*fp32)
    assert fp32[0].SerializeToString() == before


def test_file_is_half_as_large(fp32, bf16):
    assert bf16[0].ByteSize() < 0.6 * fp32[0].ByteSize()


def test_what_is_not_fp32_is_refused(bf16):
    with pytest.raises(OnnxError, match="fcn_r18-d8 is bf16 already; start from the FP32 ONNX"):
        to_bf16(*bf16)


def test_computed_in_float32_its_logits_are_close(fp32, bf16, make_frame, tmp_path):
    """The typed graph itself, on any CPU: only what rounding of weights and tensors costs."""
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 96), np.float32)
    logits = []
    for name, (model, _) in {"fp32": fp32, "bf16": bf16}.items():
        save_network(model, tmp_path / f"{name}.onnx")
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        logits.append(
            openvino_core().compile_model(tmp_path / f"{name}.onnx", "CPU", hint)(image)[0]
        )
    assert logits[1].dtype == np.float32
    difference = np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max()
    assert 0 < difference < 0.05


@pytest.mark.skipif(not computes("bf16"), reason="needs a CPU that computes BF16")
def test_openvino_runs_it_as_bf16_and_its_labels_agree(bf16, tiny_bundle, make_frame, tmp_path):
    save_network(bf16[0], tmp_path / "n.onnx")
    bundle = build_openvino(tmp_path / "n.onnx", tmp_path / "bundle")
    assert bundle.manifest.precision_proven.convolutions == {"bf16": 26}
    frame = make_frame((128, 192))
    with Segmenter.load(bundle.path) as half, Segmenter.load(tiny_bundle.path) as full:
        assert (half.segment(frame) == full.segment(frame)).mean() > 0.9
        logits = full.logits([frame])
        difference = np.abs(half.logits([frame]) - logits).max() / np.abs(logits).max()
    assert 0 < difference < 0.05
