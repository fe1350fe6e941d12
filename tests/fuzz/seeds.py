"""Writes the files from which the fuzzer begins: `seed-*` are accepted, `small-*` are quick.

python -m tests.fuzz.seeds    after a format has changed
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save as save_safetensors

from fcn_trt.calibration.amax import ZERO_AMAX
from fcn_trt.calibration.cache import CalibrationCache, TensorRange
from fcn_trt.calibration.histogram import Histogram
from fcn_trt.engine.manifest import FORMAT, FileRecord, Manifest, Proof
from fcn_trt.engine.options import BuildOptions
from fcn_trt.labels import numbered_label_set
from fcn_trt.model.architecture import architecture
from fcn_trt.model.fcn import Fcn
from fcn_trt.network.contract import load_network
from fcn_trt.spec import Check
from tests.fuzz.corpus import CORPUS
from tests.plans import export_network

CONFIG = """
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNetV1c', depth=18, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg, contract_dilation=True),
    decode_head=dict(type='FCNHead', num_convs=2, concat_input=True, align_corners=False),
    test_cfg=dict(mode='whole'))
train_pipeline = [dict(type='Normalize', **img_norm_cfg)]
"""


def main() -> None:
    """Write them all."""
    for target, name, data in _seeds():
        path = CORPUS / target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _seeds() -> Iterator[tuple[str, str, bytes]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _checkpoints(folder)
        yield from _networks(folder)
        yield from _json_files(folder)
    yield from _texts()
    yield from _images()


def _module(classes: int = 3) -> Fcn:
    torch.manual_seed(0)
    module = Fcn(architecture("fcn_r18-d8"), classes, base_width=2)
    module.eval()
    return module


def _checkpoints(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    state = _module().state_dict()
    classes, palette = ["road", "sky", "car"], [[128, 64, 128], [70, 130, 180], [0, 0, 142]]
    part = {name: state[name] for name in list(state)[:2]}
    of_mmseg = {
        "meta": {"config": CONFIG, "CLASSES": classes, "PALETTE": palette, "epoch": 3},
        "state_dict": OrderedDict((f"module.{name}", value) for name, value in state.items()),
    }
    curve = np.arange(4, dtype=np.float64)
    trained = {
        "meta": {"cfg": CONFIG, "dataset_meta": {"classes": tuple(classes), "palette": palette}},
        "state_dict": {name: value.half() for name, value in part.items()},
        "optimizer": {"param_groups": [{"lr": 0.1}], "state": {0: {"step": torch.tensor(1.0)}}},
        "message_hub": {"loss": curve, "last": curve[0]},
        "args": argparse.Namespace(size=[64, 64], name="x"),
    }
    binary = {"meta": {"config": CONFIG}, "state_dict": _module(1).state_dict()}
    for name, content, is_zip in (
        ("seed-mmsegmentation", of_mmseg, True),
        ("seed-legacy", binary, False),
        ("small", part, True),
        ("small-training", trained, True),
        ("small-legacy", trained, False),
    ):
        path = folder / "seed.pth"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        yield "checkpoint", name, path.read_bytes()
    said = {"config": CONFIG, "licence": "Apache-2.0"}
    yield "safetensors", "seed-config", save_safetensors(state, said)
    yield "safetensors", "small", save_safetensors(part, {"labels": "voc"})
    halves = {name: value.half().contiguous() for name, value in state.items()}
    yield "safetensors", "seed-half", save_safetensors(halves, {"config": CONFIG})


def _networks(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    yield "onnx", "seed-pixels-to-labels", _graph(True).SerializeToString()
    yield "onnx", "seed-logits", _graph(False).SerializeToString()
    path = folder / "seed.pth"
    torch.save({"meta": {"config": CONFIG}, "state_dict": _module().state_dict()}, path)
    export_network(path, folder / "seed.onnx", size=(32, 32))
    own = (folder / "seed.onnx").read_bytes()
    yield "onnx", "seed-own", own
    yield "network", "seed-own", own


def _graph(is_whole: bool) -> Any:
    """A network of two convolutions, with or without what is done before and behind it."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 3, 1, 1),
        "std": np.array([58.395, 57.12, 57.375], np.float32).reshape(1, 3, 1, 1),
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((5, 4, 1, 1)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
        "scales": np.array([1, 1, 4, 4], np.float32),
    }
    statistics = ("gamma", "beta", "running", "variance")
    weights |= {name: np.ones(4, np.float32) for name in statistics}
    image = "normalised" if is_whole else "input"
    nodes = [
        helper.make_node("Conv", [image, "w"], ["a"], strides=[4, 4], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *statistics], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "v", "b"], ["logits"]),
    ]
    kind, sides = TensorProto.FLOAT, ["n", 3, 32, 32]
    output = helper.make_tensor_value_info("logits", kind, None)
    if is_whole:
        kind, sides = TensorProto.UINT8, ["n", 32, 32, 3]
        nodes = [
            helper.make_node("Cast", ["input"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Sub", ["t", "mean"], ["s"]),
            helper.make_node("Div", ["s", "std"], ["normalised"]),
            *nodes,
            helper.make_node(
                "Resize",
                ["logits", "", "scales"],
                ["up"],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            helper.make_node("Softmax", ["up"], ["p"], axis=1),
            helper.make_node("ArgMax", ["p"], ["labels"], axis=1, keepdims=0),
        ]
        output = helper.make_tensor_value_info("labels", TensorProto.INT64, None)
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "seed",
        [helper.make_tensor_value_info("input", kind, sides)],
        [output],
        [numpy_helper.from_array(v, name) for name, v in weights.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _json_files(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    _, spec = load_network(folder / "seed.onnx")
    check = Check(step="build", against="PyTorch", frames=2, agreement=1.0, floor=0.9, classes=2)
    manifest = Manifest(
        format=FORMAT,
        created="2026-01-31T12:00:00+00:00",
        built_by="fcn_trt 0.1.0",
        spec=spec,
        target="tensorrt",
        target_version="10.3.0",
        device="Orin",
        compute_capabilities=("8.7",),
        options=BuildOptions(),
        precision_asked="fp32",
        precision_proven=Proof(source="engine", convolutions={"fp32": 26}, gmac={"fp32": 0.5}),
        scratch_bytes=1024,
        calibration_sha256=None,
        inputs_sha256="",
        kernels_sha256="ab" * 32,
        checks=(check,),
        files={"network.onnx": FileRecord(size_bytes=3, sha256="cd" * 32)},
    )
    yield "manifest", "seed-tensorrt", manifest.to_json().encode()
    yield "calibration", "seed-histograms", _cache().to_json().encode()
    result = json.loads((CORPUS.parents[2] / "benchmarks" / "quantization.json").read_bytes())
    yield "result", "seed-one", json.dumps(result | {"results": result["results"][:1]}).encode()


def _cache() -> CalibrationCache:
    tensors = {}
    for name, values in (("image", np.linspace(-2, 2, 99)), ("zeros", np.zeros(5))):
        histogram = Histogram()
        histogram.add(values.astype(np.float32))
        largest = histogram.maximum
        tensors[name] = TensorRange(largest, largest or ZERO_AMAX, histogram.halved())
    return CalibrationCache(
        model="fcn_r18-d8",
        weights="random (seed 0)",
        network_sha256="ab" * 32,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        input_size=(64, 96),
        images=3,
        images_sha256="cd" * 32,
        images_name="straße",
        method="minmax",
        created="2026-11-21",
        made_by="fcn_trt 0",
        openvino="2026.4",
        tensors=tensors | {"logits": TensorRange(7.5, 7.5, None)},
    )


def _texts() -> Iterator[tuple[str, str, bytes]]:
    recipes = CORPUS.parents[2] / "engines"
    for name in ("demo_cpu_int8", "thor_512x1024"):
        yield "recipe", f"seed-{name}", (recipes / f"{name}.toml").read_bytes()
    yield "recipe", "seed-every-table", _RECIPE.encode()
    lines = "image: 3c8a1f04\na: b: 3d021e5b\r\n(Unnamed Layer* 0) [x]: 1\nzero: 0\n"
    yield "table", "seed-release-10", f"TRT-100300-EntropyCalibration2\n{lines}".encode()
    yield "table", "seed-release-8", f"TRT-8502-MinMaxCalibration\n{lines}".encode()
    named = "\ufeff# Straße\nroad #804080\nsky  #4682B4\r\n\ntraffic light\n"
    yield "labels", "seed-colours", named.encode()
    yield "labels", "seed-plain", "\n".join(numbered_label_set(19).classes).encode()


_RECIPE = """
model = "net.onnx"
labels = { road = "#804080", sky = "" }
size = "512x1024"
batch = 2
precision = "int8"
target = "tensorrt"
output = "out"
calibration = "net.json"
method = "mse"
keep_float = ["a", "b"]
mean = [123.7, 116.3, 103.5]
std = 58.0
scale = 255
input_colour = "bgr"
ignore = 255
accept = 0.5

[dynamic]
min_size = "256x512"
max_size = "1024x2048"
min_batch = 1
max_batch = 4

[device]
name = "Orin"
compute_capability = "8.7"
workspace = "512MiB"
optimization_level = 3
strip = false
"""


def _images() -> Iterator[tuple[str, str, bytes]]:
    picture = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for suffix in ("png", "jpg", "bmp", "webp", "tiff", "ppm"):
        yield "image", f"seed-{suffix}", cv2.imencode(f".{suffix}", picture)[1].tobytes()


if __name__ == "__main__":
    main()
