"""The claims of the README about accuracy, through the commands that a user types or the calls
behind them.

Checkpoints and CamVid lie in the shared data folder; where it is not there, these tests skip.
`make test` asks the same of a few frames; the figures that the README has are in `make test-all`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from fcn_trt.bench.environment import this_environment
from fcn_trt.calibration.amax import DEFAULT_METHOD
from fcn_trt.calibration.images import RangeImages
from fcn_trt.cli.app import main
from fcn_trt.engine.openvino.builder import build_openvino, computes
from fcn_trt.evaluation.datasets import Dataset, open_dataset
from fcn_trt.evaluation.metrics import ConfusionMatrix
from fcn_trt.pipeline.plan import Plan, Type
from fcn_trt.pipeline.run import run
from fcn_trt.runtime.segmenter import Segmenter
from fcn_trt.scene.scene import StreetScene
from fcn_trt.spec import LabelMap
from tests.plans import as_network

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")


FULL_WIDTH_MIOU = 64.96
"""Percent, on CamVid val; data/checkpoints/README.md of the shared data."""
START_MIOU = 63.28
"""Percent, of the checkpoint that the demo model's training began with."""


@pytest.fixture
def cli(monkeypatch, capsys):
    """Run a command that must succeed; returns its JSON object."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fcn-trt", *map(str, arguments), "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert end.value.code == 0, err
        return json.loads(out)

    return run


@pytest.fixture
def build(cli, tmp_path):
    """A checkpoint through export and build, in FP32; returns the bundle."""

    def make(*model, size):
        cli("export", *model, "--size", size, "--out", tmp_path / "m.onnx")
        cli("build", tmp_path / "m.onnx", "--out", tmp_path / "bundle", "--precision", "fp32")
        return tmp_path / "bundle"

    return make


@pytest.fixture
def demo_weights():
    with resources.as_file(resources.files("fcn_trt.demo") / "weights.safetensors") as path:
        yield path


@pytest.mark.exhaustive
def test_full_width_camvid_checkpoint_keeps_its_miou(cli, build, shared_data):
    bundle = build(shared_data / "checkpoints" / "fcn_r18-d8_camvid.pth", size="360x480")
    root = shared_data / "camvid" / "val"
    found = cli("eval", bundle, "--dataset", "camvid", "--root", root)
    assert 100 * found["miou"] == pytest.approx(FULL_WIDTH_MIOU, abs=0.1)
    assert 100 * found["pixel_accuracy"] == pytest.approx(91.42, abs=0.1)


@pytest.mark.exhaustive
def test_demo_model_segments_streets_it_has_never_seen(cli, build, demo_weights):
    found = cli("eval", build(demo_weights, size="256x512"), "--dataset", "scene")
    assert found["miou"] >= 0.80


@pytest.mark.exhaustive
def test_demo_model_is_almost_as_good_on_camvid_as_its_start(cli, build, demo_weights, shared_data):
    bundle = build(demo_weights, size="360x480")
    root = shared_data / "camvid" / "val"
    found = cli("eval", bundle, "--dataset", "camvid", "--root", root)
    assert 100 * found["miou"] >= START_MIOU - 2


@dataclass(frozen=True)
class Fp32:
    """A checkpoint in FP32, and what it says about frames of CamVid val."""

    name: str
    network: Path
    dataset: Dataset
    label_maps: list[LabelMap]
    miou: float


def segmented(network, dataset, folder):
    """Label maps of a data set's frames, and their mean IoU in percent."""
    bundle = build_openvino(as_network(network), folder / f"{network.stem}.bundle")
    maps, confusion = [], ConfusionMatrix(len(dataset.labels.classes))
    with Segmenter.load(bundle.path) as segmenter:
        frames = (sample.frame for sample in dataset)
        for sample, (_, label_map) in zip(dataset, segmenter.stream(frames), strict=True):
            confusion.update(label_map, sample.truth)
            maps.append(label_map)
    return maps, 100 * confusion.miou()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("full width", marks=pytest.mark.exhaustive),
        pytest.param("demo", marks=pytest.mark.exhaustive),
        "demo, few frames",
    ],
)
def in_fp32(request, shared_data, tmp_path_factory):
    """The demo model on all of CamVid val or on 5, the full-width one on each fourth frame: time.

    The few are spread evenly.
    """
    from tests.plans import export_network

    folder = tmp_path_factory.mktemp("half")
    dataset = open_dataset("camvid", shared_data / "camvid" / "val")
    checkpoint = Path(str(resources.files("fcn_trt.demo") / "weights.safetensors"))
    if request.param == "full width":
        checkpoint = shared_data / "checkpoints" / "fcn_r18-d8_camvid.pth"
        dataset = replace(dataset, pairs=dataset.pairs[::4])
    elif request.param == "demo, few frames":
        dataset = replace(dataset, pairs=dataset.pairs[::25])
    export_network(str(checkpoint), folder / "fp32.onnx", size=(360, 480))
    maps, miou = segmented(folder / "fp32.onnx", dataset, folder)
    return Fp32(request.param, folder / "fp32.onnx", dataset, maps, miou)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_keeps_the_labels_of_fp32(in_fp32, precision, tmp_path):
    """OpenVINO's own BF16, from the FP32 graph, keeps 99.90 % of the full-width model's labels."""
    from fcn_trt.precision.type_network import type_network

    if not computes(precision):
        pytest.skip(f"needs a CPU that computes {precision}")
    typed = tmp_path / f"{precision}.onnx"
    frames = (in_fp32.dataset[i].frame for i in range(min(8, len(in_fp32.dataset))))
    made = type_network(as_network(in_fp32.network), typed, precision, images=frames)
    assert made.spec.exceptions == {}
    maps, miou = segmented(typed, in_fp32.dataset, tmp_path)
    agreement = np.mean([np.mean(a == b) for a, b in zip(maps, in_fp32.label_maps, strict=True)])
    assert 100 * agreement >= 99.85
    assert miou == pytest.approx(in_fp32.miou, abs=0.05)


INT8_DROP = {"full width": 0.1, "demo": 0.3, "demo, few frames": 0.3}
"""Points of mean IoU that a checkpoint may lose."""
CALIBRATED_ON = {"full width": 64, "demo": 64, "demo, few frames": 8}


def sums_overflow():
    """Whether this CPU adds two products of 8 bits in 16, as x86-64 does without VNNI.

    Sums of the convolution that reads the image overflow then, as its codes have a sign.
    """
    found = this_environment().instruction_sets or ()
    return "avx2" in found and not any(name.endswith("vnni") for name in found)


@pytest.fixture(scope="module")
def calibration(in_fp32, shared_data):
    """The ranges of a checkpoint on images that are spread evenly over CamVid train."""
    from fcn_trt.calibration.cache import write_calibration
    from fcn_trt.calibration.calibrate import calibrate

    folder = shared_data / "camvid" / "train" / "images"
    limit = CALIBRATED_ON[in_fp32.name]
    images = RangeImages(folders=(folder,), limit=limit, size=(360, 480))
    path = in_fp32.network.parent / "ranges.json"
    found = calibrate(
        as_network(in_fp32.network), images, method=DEFAULT_METHOD, created="2026-11-21"
    )
    write_calibration(found, path)
    return path


def test_int8_keeps_the_miou_and_the_labels_of_fp32(in_fp32, calibration, tmp_path):
    """All convolutions and residual additions quantised; the rest in FP32, as on the CPU.

    ModelOpt's entropy INT8 keeps 99.45 % of the full-width model's labels without the additions;
    data/checkpoints/README.md of the shared data.
    """
    typed = tmp_path / "int8.onnx"
    step = Type(precision="int8", calibration=calibration, float_precision="fp32")
    plan = Plan(source=as_network(in_fp32.network), type=step)
    assert run(plan, typed).spec.exceptions == {}
    maps, miou = segmented(typed, in_fp32.dataset, tmp_path)
    agreement = np.mean([np.mean(a == b) for a, b in zip(maps, in_fp32.label_maps, strict=True)])
    assert in_fp32.miou - miou <= INT8_DROP[in_fp32.name]
    if sums_overflow():
        pytest.xfail(f"without VNNI {100 * agreement:.2f} % of the labels are those of FP32")
    assert 100 * agreement >= 99.5


def torchvision_fcn():
    """torchvision's own fcn_resnet50 with weights under which many classes win somewhere."""
    from torchvision.models.segmentation import fcn_resnet50

    torch.manual_seed(0)
    model = fcn_resnet50(weights=None, weights_backbone=None, num_classes=21, aux_loss=True)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(layer.running_mean, std=0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, std=0.1)
    return model.eval()


def labels_of_pytorch_hub(model, picture):
    """What the example of PyTorch Hub's FCN page computes, from an RGB picture.

    Source: PyTorch Hub, pytorch_vision_fcn_resnet101.
    """
    from torchvision import transforms

    preprocess = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    with torch.no_grad():
        output = model(preprocess(picture).unsqueeze(0))["out"][0]
    return output.argmax(0).numpy()


@pytest.mark.parametrize(
    "size", [(96, 128), pytest.param((240, 320), marks=pytest.mark.exhaustive)]
)
def test_labels_equal_those_of_torchvision_s_own_example(build, tmp_path, size):
    frame = StreetScene(5).render(40, size)[0]
    model = torchvision_fcn()
    expected = labels_of_pytorch_hub(model, np.ascontiguousarray(frame[..., ::-1]))
    assert len(np.unique(expected)) >= 5
    checkpoint = Path(tmp_path, "torchvision.pth")
    torch.save(model.state_dict(), checkpoint)
    bundle = build("fcn_resnet50", "--weights", checkpoint, size=f"{size[0]}x{size[1]}")
    with Segmenter.load(bundle) as segmenter:
        label_map = segmenter.segment(frame)
    assert np.mean(label_map == expected) >= 0.9995
