"""What can be compared, and that each gives the labels of the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fcn_trt.comparison.predictor import kind_of, open_predictors
from fcn_trt.engine.bundle import Bundle
from fcn_trt.engine.openvino.builder import build_openvino
from fcn_trt.errors import BundleError, FcnTrtError, OnnxError
from tests.plans import as_network


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory) -> Path:
    """The model as a checkpoint that says what it is."""
    torch = pytest.importorskip("torch")
    path: Path = tmp_path_factory.mktemp("checkpoint") / "tiny.pth"
    meta = {"model": "fcn_r18-d8"}
    torch.save({"state_dict": model.module.state_dict(), "meta": meta}, path)
    return path


@pytest.fixture(scope="module")
def network(model, write_network, tmp_path_factory) -> Path:
    """The same model as FP32 ONNX."""
    path: Path = write_network(model, tmp_path_factory.mktemp("network") / "tiny.onnx")
    return path


@pytest.fixture(scope="module")
def bundle(network) -> Bundle:
    """The same model as an OpenVINO bundle."""
    return build_openvino(as_network(network), network.with_suffix(""))


def test_kind_is_told_by_the_name(bundle, network, checkpoint):
    assert kind_of(str(bundle.path)) == "bundle"
    assert kind_of(str(network)) == "onnx"
    assert kind_of("missing.ONNX") == "onnx"
    assert kind_of(str(checkpoint)) == "torch"
    assert kind_of("fcn_resnet50") == "torch"


@pytest.mark.parametrize("other", ["network", "bundle"])
def test_checkpoint_onnx_and_bundle_label_alike(checkpoint, network, bundle, make_frame, other):
    frames = [make_frame((70, 90), seed=seed) for seed in range(4)]
    path = network if other == "network" else bundle.path
    with open_predictors(str(checkpoint), str(path)) as (first, second):
        assert first.spec.input_size == second.spec.input_size == (64, 96)
        assert (first.kind, second.kind) == ("torch", "onnx" if other == "network" else "bundle")
        assert first.description.startswith("PyTorch on ")
        assert second.description.startswith("OpenVINO ")
        here = [label_map for _, label_map in first.process(frames)]
        there = [label_map for _, label_map in second.process(frames)]
    assert all(label_map.shape == (70, 90) for label_map in here)
    assert len(np.unique(np.stack(here))) == 3
    # Logits that are almost equal may go either way.
    assert np.mean(np.stack(here) == np.stack(there)) > 0.9995


def test_order_and_size_are_as_asked(checkpoint, network):
    with open_predictors(str(network), str(checkpoint), size=(32, 48)) as (first, second):
        assert (first.kind, second.kind) == ("onnx", "torch")
        assert first.spec.input_size == (64, 96)
        assert second.spec.input_size == (32, 48)


def test_a_model_by_name_takes_weights(checkpoint, network, make_frame):
    frames = [make_frame()]
    names = ("fcn_r18-d8", str(checkpoint))
    with pytest.raises(ValueError, match="two checkpoints have no input size"):
        open_predictors("fcn_r18-d8", "fcn_r18-d8", weights=str(checkpoint)).__enter__()
    with open_predictors(names[0], str(network), weights=names[1]) as (first, second):
        (_, here), (_, there) = *first.process(frames), *second.process(frames)
        assert np.mean(here == there) > 0.999


def test_sides_with_other_classes_are_refused(
    make_model, write_network, tiny_network, tiny_bundle, tmp_path
):
    four = write_network(make_model(classes=4), tmp_path / "four.onnx")
    with pytest.raises(FcnTrtError, match="the first has 3 classes and the second 4; both need"):
        open_predictors(str(tiny_network), str(four)).__enter__()
    model = onnx.load(tiny_network)
    entry = next(e for e in model.metadata_props if e.key == "fcn_trt.spec")
    assert '"class_1"' in entry.value
    entry.value = entry.value.replace('"class_1"', '"road"')
    onnx.save(model, tmp_path / "road.onnx")
    with pytest.raises(FcnTrtError, match="class 1 is 'class_1' in the first and 'road' in the s"):
        open_predictors(str(tiny_bundle.path), str(tmp_path / "road.onnx")).__enter__()


def test_what_cannot_be_opened_is_refused_as_elsewhere(tiny_network, tmp_path):
    plain = onnx.load(tiny_network)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    for predictor, kind, message in (
        (tmp_path / "plain.onnx", OnnxError, "import it first with `fcn-trt export "),
        (tmp_path / "missing.onnx", OnnxError, "cannot be read: No such file"),
        (tmp_path, BundleError, "manifest.json"),
        (tmp_path / "missing", FcnTrtError, "is neither a bundle's folder nor a file; nothing is"),
        ("fcn_resnet", ValueError, "unknown model 'fcn_resnet'; `fcn-trt models` lists"),
    ):
        with pytest.raises(kind, match=message):
            open_predictors(str(predictor), str(tiny_network)).__enter__()
