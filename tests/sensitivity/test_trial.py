"""Scores against networks that were saved, built and run as a user does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_trt.engine.openvino.builder import build_openvino, computes
from fcn_trt.errors import EngineError
from fcn_trt.precision.type_network import Ranges
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.sensitivity import trial
from fcn_trt.sensitivity.layers import find_layers
from fcn_trt.sensitivity.result import Score
from fcn_trt.sensitivity.trial import Trials

pytest.importorskip("onnx", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.calibration.cache import read_calibration
from fcn_trt.network.contract import load_network
from fcn_trt.precision.qdq import convolution_names
from fcn_trt.precision.quantize import quantize_network
from tests.plans import as_network, save

CLASSES = 3


@pytest.fixture(scope="module")
def amaxes(calibration) -> Mapping[str, float]:
    found: Mapping[str, float] = read_calibration(calibration).amaxes()
    return found


@pytest.fixture
def make_trials(tiny_network, amaxes, choice):
    def make(network=tiny_network, precision: Any = "int8", float_precision: Any = "fp32"):
        model, spec = load_network(network)
        return Trials(
            model,
            spec,
            choice.find(spec),
            precision=precision,
            float_precision=float_precision,
            ranges=Ranges(amaxes=amaxes),
        )

    return make


def label(network, folder, images):
    bundle = build_openvino(as_network(network), folder / network.stem)
    with Segmenter.load(bundle.path) as segmenter:
        return [segmenter.segment(frame) for frame in images]


def mean_iou(predicted, truths):
    """By sets of pixels, one class after the other."""
    found, true = (np.concatenate([a.ravel() for a in maps]) for maps in (predicted, truths))
    found, true = found[true != 9], true[true != 9]
    ious = []
    for index in range(CLASSES):
        both, either = (found == index) & (true == index), (found == index) | (true == index)
        if either.any():
            ious.append(both.sum() / either.sum())
    return 100 * np.mean(ious)


@pytest.mark.parametrize("kept", [[], ["backbone.stem.0", "decode_head.conv_seg"]])
def test_score_is_that_of_the_bundle(tiny_network, amaxes, labelled, make_trials, tmp_path, kept):
    paths = sorted((labelled / "images").iterdir())
    images = [cv2.imread(str(path)) for path in paths]
    truths = [np.asarray(Image.open(labelled / "labels" / path.name)) for path in paths]
    model, spec = load_network(tiny_network)
    quantised, _ = quantize_network(model, spec, "int8", amaxes, keep=frozenset(kept))
    save(quantised, tmp_path / "int8.onnx")
    exact = label(tiny_network, tmp_path, images)
    rounded = label(tmp_path / "int8.onnx", tmp_path, images)
    same = sum((a == b).sum() for a, b in zip(exact, rounded, strict=True))
    pixels = sum(a.size for a in exact)
    assert 0.8 < same / pixels < 1

    trials = make_trials()
    assert trials.images == len(images)
    assert trials.reference.agreement == 100
    assert trials.reference.miou == pytest.approx(mean_iou(exact, truths))
    seen: list[int] = []
    found = trials.measure(frozenset(kept), on_image=lambda: seen.append(1))
    assert len(seen) == len(images)
    assert found.agreement == pytest.approx(100 * same / pixels)
    assert found.miou == pytest.approx(mean_iou(rounded, truths))


def test_network_with_everything_in_float_is_fp32(make_trials, tiny_network):
    model, _ = load_network(tiny_network)
    for precision in ("int8", "fp8"):
        trials = make_trials(precision=precision)
        everything = frozenset(convolution_names(model.graph, precision))
        assert trials.measure(everything) == trials.reference
        assert trials.measure(frozenset()) != trials.reference


def test_images_that_there_is_no_room_for_are_read_again(make_trials, monkeypatch):
    expected = make_trials().measure(frozenset())
    monkeypatch.setattr(trial, "KEPT_BYTES", 0)
    assert make_trials().measure(frozenset()) == expected


def test_batch_changes_no_score(make_trials, tiny_model, write_network, tmp_path):
    single = make_trials()
    pairs = make_trials(write_network(tiny_model, tmp_path / "b.onnx", batch=2))
    assert pairs.reference == single.reference
    assert pairs.measure(frozenset()) == single.measure(frozenset())


def test_images_without_labels_have_no_mean_iou(tiny_network, amaxes, choice):
    from dataclasses import replace

    model, spec = load_network(tiny_network)
    images = replace(choice, labels=None).find(spec)
    trials = Trials(
        model, spec, images, precision="int8", float_precision="fp32", ranges=Ranges(amaxes=amaxes)
    )
    assert trials.reference == Score(agreement=100.0, miou=None)
    assert trials.measure(frozenset()).miou is None


def test_type_that_the_cpu_does_not_compute_is_refused(make_trials):
    if computes("fp16"):
        pytest.skip("this CPU computes FP16")
    with pytest.raises(EngineError, match=r"fp16 was asked for.* does not compute"):
        make_trials(float_precision="fp16")


def test_layers_have_the_cost_that_profile_counts(tiny_network, tiny_model):
    torch = pytest.importorskip("torch")
    model, spec = load_network(tiny_network)
    layers = find_layers(model.graph, "int8")
    assert [layer.name for layer in layers] == convolution_names(model.graph, "int8")
    counted = []

    def count(layer, inputs, output):
        counted.append(output.numel() * layer.weight[0].numel() / 1e9)

    handles = [
        layer.register_forward_hook(count)
        for layer in tiny_model.module.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        tiny_model.module(torch.zeros(1, 3, *spec.input_size))
    for handle in handles:
        handle.remove()
    assert sorted(layer.gmac for layer in layers) == pytest.approx(sorted(counted))


def test_layers_are_those_that_the_precision_quantises(tiny_network):
    """Those of more than 16 channels, in FP8; their cost is the same in both."""
    model, _ = load_network(tiny_network)
    fp8, int8 = (find_layers(model.graph, precision) for precision in ("fp8", "int8"))
    assert [layer.name for layer in fp8] == [
        "backbone.layer3.0.conv2",
        "backbone.layer4.0.conv1",
        "backbone.layer4.0.conv2",
        "backbone.layer4.0.downsample.0",
    ]
    assert set(fp8) < set(int8)
    assert len(int8) == 18
