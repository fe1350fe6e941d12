import sys
from dataclasses import fields, replace
from importlib import resources

import cv2
import numpy as np
import pytest
from onnx.numpy_helper import to_array

from benchmarks.demo_model.network import MANTISSA_BITS
from fcn_trt.demo import job
from fcn_trt.demo.job import packaged, run_demo
from fcn_trt.engine.bundle import load_bundle
from fcn_trt.engine.openvino.builder import computes
from fcn_trt.errors import OutputError
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.torch_process import torch_process
from fcn_trt.model.weights import WeightsFile, resolve_weights
from fcn_trt.network.contract import load_network
from fcn_trt.network.file import Network
from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.pipeline.plan import Export
from fcn_trt.spec import read_spec
from fcn_trt.video.loop import Progress
from fcn_trt.video.source import open_source

SIZE = (64, 128)


@pytest.fixture
def short(monkeypatch):
    """Measure on a few streets only; the whole demo runs in tests/cli/test_app.py."""
    monkeypatch.setattr(job, "EVALUATED_SCENES", 3)
    monkeypatch.setattr(job, "PICTURED_SCENES", 2)


def test_demo_makes_what_it_reports(short, tmp_path):
    steps: list[str] = []
    progress: list[Progress] = []
    done = run_demo(
        tmp_path / "deep" / "out",
        size=SIZE,
        precision="fp32",
        frame_count=4,
        on_step=steps.append,
        on_progress=progress.append,
    )
    assert len(steps) == 4
    assert [p.frames for p in progress] == [1, 2, 3, 4]
    assert all(getattr(done, field.name) is not None for field in fields(done))
    assert done.precision == "fp32"
    assert read_spec(done.network).input_size == SIZE
    assert load_bundle(done.bundle).manifest.precision_proven.convolutions == {"fp32": 26}
    assert done.description.endswith("convolutions: 26 fp32 (100.0 % of GMAC)")
    with open_source(str(done.video)) as source:
        assert [frame.shape for frame in source] == [(*SIZE, 3)] * 4
        assert source.info.rate_fps == 15
    picture = cv2.imread(str(done.picture))
    assert picture is not None
    assert picture.shape == (2 * SIZE[0], 3 * SIZE[1], 3)
    assert done.evaluation.images == 3
    assert (done.check.step, done.check.against) == ("build", "PyTorch")


def test_fp32_engine_agrees_with_pytorch(short, tmp_path):
    done = run_demo(tmp_path, size=SIZE, precision="fp32", frame_count=1)
    assert (done.check.agreement or 0) >= 0.9995


def test_precision_is_bf16_where_the_cpu_computes_it(short, tmp_path):
    done = run_demo(tmp_path, size=SIZE, frame_count=1)
    assert done.precision == ("bf16" if computes("bf16") else "fp32")
    assert (done.check.agreement or 0) > 0.97


def test_demo_can_be_run_again_into_the_same_folder(short, tmp_path):
    first = run_demo(tmp_path, size=SIZE, precision="fp32", frame_count=1)
    again = run_demo(tmp_path, size=SIZE, precision="fp32", frame_count=2)
    assert again.evaluation == first.evaluation
    with open_source(str(again.video)) as source:
        assert len(list(source)) == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": (8, 8)}, "size is 8x8; each side must be at least 16 pixels"),
        ({"frame_count": 0}, "frame_count is 0; it must be at least 1"),
    ],
)
def test_what_no_street_can_be_drawn_with_is_refused_before_anything_is_made(
    tmp_path, wrong, message
):
    with pytest.raises(ValueError, match=message):
        run_demo(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_missing_export_extra_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcn_trt.model.load", None)
    with pytest.raises(ModuleNotFoundError, match=r"fcn_trt\.model\.load"):
        run_demo(tmp_path / "out", size=SIZE)
    assert not (tmp_path / "out").exists()


def test_without_pytorch_it_begins_with_the_network_in_the_package(short, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcn_trt.model.load", None)
    steps: list[str] = []
    done = run_demo(tmp_path, frame_count=1, on_step=steps.append)
    assert "PyTorch is not installed" in steps[0]
    assert (done.precision, done.export_s) == ("fp32", None)
    assert (done.check.step, done.check.against) == ("build", "PyTorch")
    assert done.network == tmp_path / "bundle" / "network.onnx"
    assert done.evaluation.miou > 0.75
    with pytest.raises(ModuleNotFoundError, match=r"fcn_trt\.model\.load"):
        run_demo(tmp_path, precision="int8")


def test_network_in_the_package_is_what_the_checkpoint_gives():
    with packaged(job.NETWORK) as path, packaged("weights.safetensors") as weights:
        network = Network.read(path)
        model, spec = load_network(path)
        loaded = Export(model=str(weights), size=job.SIZE).load()
    expected, expected_spec = to_onnx(loaded, size=job.SIZE)
    (found,) = spec.checks
    assert found.against == "PyTorch"
    assert (found.agreement or 0) >= 0.9999
    assert replace(spec, checks=()) == expected_spec
    assert list(model.graph.node) == list(expected.graph.node)
    pairs = zip(model.graph.initializer, expected.graph.initializer, strict=True)
    for ours, theirs in pairs:
        assert ours.name == theirs.name
        a, b = to_array(ours), to_array(theirs)
        np.testing.assert_allclose(a, b, rtol=2.0 ** -(MANTISSA_BITS + 1), atol=0)
    reference = network.reference()
    assert reference is not None
    process = torch_process(loaded, job.SIZE)
    assert reference.agreement(lambda frame: next(process([frame])).label_map) >= 0.9999


def test_file_in_the_way_of_the_folder_is_named(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deep"):
        with pytest.raises(OutputError, match=r"out.* cannot be made: a file is in its way; choos"):
            run_demo(out, size=SIZE)
    assert (tmp_path / "out").read_text() == "mine"


def test_weights_are_a_compact_fcn_for_camvid_s_classes():
    path = resources.files("fcn_trt.demo") / "weights.safetensors"
    with resources.as_file(path) as file:
        assert file.stat().st_size < 8_000_000
        weights = resolve_weights(str(file), None)
        assert isinstance(weights, WeightsFile)
        model = load_checkpoint(weights)
    assert model.module.arch.name == "fcn_r18-d8"
    assert model.labels.name == "camvid"
    assert "research" in model.licence
    state = model.module.state_dict()
    assert state["backbone.layer1.0.conv1.weight"].shape[0] == 32
    assert all(np.isfinite(tensor.numpy()).all() for tensor in state.values())
