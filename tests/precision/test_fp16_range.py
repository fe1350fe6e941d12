from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from fcn_trt.engine.openvino.builder import compile_network, computes
from fcn_trt.errors import EngineError, OnnxError
from fcn_trt.network.contract import load_network
from fcn_trt.precision.fp16_range import FP16_LIMIT, find_overflows
from fcn_trt.precision.half import FP16_MAX
from fcn_trt.precision.type_network import type_network
from fcn_trt.spec import read_spec
from fcn_trt.stages.preprocess import preprocess
from tests.plans import as_network, save

BEFORE, AFTER = "backbone.stem.0", "backbone.stem.3"
LARGE = (BEFORE, "backbone.stem.2", AFTER)
"""The nodes between which the activations of `overflowing` are large."""


@pytest.fixture
def scaled(tiny_network, tmp_path):
    """The tiny network with one activation scaled by a power of two, and then scaled back.

    A rectifier lets the factor through, so that FP32 computes the same logits.
    """

    def make(factor):
        model, _ = load_network(tiny_network)
        for tensor in model.graph.initializer:
            by = {
                f"{BEFORE}.weight": factor,
                f"{BEFORE}.bias": factor,
                f"{AFTER}.weight": 1 / factor,
            }.get(tensor.name, 1.0)
            values = onnx.numpy_helper.to_array(tensor)
            tensor.raw_data = (values * np.float32(by)).tobytes()
        save(model, tmp_path / f"scaled{factor}.onnx")
        return tmp_path / f"scaled{factor}.onnx"

    return make


@pytest.fixture
def overflowing(scaled):
    """An activation of 1e5 and more, from weights that fit FP16."""
    return scaled(2**17)


@pytest.fixture
def frames(make_frame):
    return [make_frame(seed=seed) for seed in range(2)]


def logits_of(network, frame):
    spec = read_spec(network)
    image = preprocess(frame, spec.input_size, mean=spec.mean, std=spec.std)
    return compile_network(as_network(network, spec)).model(image[None])[0]


def test_network_that_fits_has_none(tiny_network, frames):
    assert find_overflows(as_network(tiny_network, read_spec(tiny_network)), frames) == {}


def test_nodes_around_a_large_activation_are_found_with_its_magnitude(overflowing, frames):
    found = find_overflows(as_network(overflowing, read_spec(overflowing)), frames)
    assert tuple(found) == LARGE
    assert min(found.values()) > 1e5
    assert found[LARGE[1]] == found[BEFORE]  # a rectifier reads what the convolution writes


def test_limit_leaves_room_for_images_that_were_not_seen(scaled, frames):
    assert 8 * FP16_LIMIT == FP16_MAX
    spec = read_spec(scaled(1))
    unlimited = find_overflows(as_network(scaled(2**16), spec), frames)[BEFORE] / 2**16
    fits, too_large = (int(np.log2(FP16_LIMIT / unlimited)) + i for i in (0, 1))
    assert find_overflows(as_network(scaled(2**fits), spec), frames) == {}
    assert tuple(find_overflows(as_network(scaled(2**too_large), spec), frames)) == LARGE


def test_each_image_counts_in_batches_that_are_not_full(
    tiny_model, write_network, frames, tmp_path, monkeypatch
):
    monkeypatch.setattr("fcn_trt.precision.fp16_range.FP16_LIMIT", 0.0)  # every node is too large
    single, triple = (
        write_network(tiny_model, tmp_path / f"{batch}.onnx", batch=batch) for batch in (1, 3)
    )
    frames = [*frames, *frames[:1], *frames[1:]]
    seen = []
    expected = find_overflows(as_network(single, read_spec(single)), frames)
    found = find_overflows(
        as_network(triple, read_spec(triple)), frames, on_image=lambda: seen.append(1)
    )
    assert len(seen) == 4
    assert found == pytest.approx(expected, rel=1e-4)
    assert len(found) == len(load_network(single)[0].graph.node)


def test_no_images_are_refused(tiny_network):
    with pytest.raises(ValueError, match="no images to find out on whether fcn_r18-d8 fits FP16"):
        find_overflows(as_network(tiny_network, read_spec(tiny_network)), [])


def test_grey_frame_is_refused(tiny_network):
    with pytest.raises(ValueError, match=r"but this one is \(64, 96\) uint8"):
        find_overflows(
            as_network(tiny_network, read_spec(tiny_network)), [np.zeros((64, 96), np.uint8)]
        )


def test_missing_network_is_refused(tiny_network, frames, tmp_path):
    with pytest.raises((EngineError, OnnxError), match=r"gone\.onnx"):
        find_overflows(replace(as_network(tiny_network), path=tmp_path / "gone.onnx"), frames)


@pytest.mark.skipif(not computes("fp16"), reason="needs a CPU that computes FP16")
class TestComputedInFp16:
    def test_without_the_images_the_logits_are_lost(self, overflowing, frames, tmp_path):
        spec = type_network(as_network(overflowing), tmp_path / "n.onnx", "fp16").spec
        assert spec.exceptions == {}
        assert not np.isfinite(logits_of(tmp_path / "n.onnx", frames[0])).all()

    def test_with_the_images_the_logits_agree(self, overflowing, frames, tmp_path):
        spec = type_network(
            as_network(overflowing), tmp_path / "n.onnx", "fp16", images=frames
        ).spec
        assert spec.exceptions == dict.fromkeys(LARGE, "fp32")
        expected = logits_of(overflowing, frames[0])
        difference = np.abs(logits_of(tmp_path / "n.onnx", frames[0]) - expected).max()
        assert difference / np.abs(expected).max() < 0.02
