from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fcn_trt.labels import label_set
from fcn_trt.model.architecture import ARCHITECTURES, IMAGENET_MEAN, IMAGENET_STD
from fcn_trt.network.contract import load_network
from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.spec import ShapeRange
from tests.plans import save

TOLERANCE = 1e-4
"""Of the largest logit: float32 sums in another order, and batch norm folded beforehand."""


def run(model, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["logits"], {"image": image})[0]


def difference(model, module, shape):
    image = np.random.default_rng(1).standard_normal(shape, np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    logits = run(model, image)
    assert logits.shape == expected.shape
    return np.abs(logits - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "769" not in name])
def test_logits_equal_those_of_the_module_at_odd_sizes(make_model, name):
    loaded = make_model(name, 5)
    model, spec = to_onnx(loaded, size=(65, 103))
    assert difference(model, loaded.module, (1, 3, 65, 103)) < TOLERANCE
    arch = ARCHITECTURES[name]
    assert (spec.model, spec.family, spec.stride) == (name, arch.family, arch.stride)
    assert spec.align_corners == arch.align_corners


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "769" in name])
def test_769_variants_are_the_same_graph_with_another_spec(make_model, name):
    plain, spec = to_onnx(make_model(name.removesuffix("_769x769")), size=(64, 96))
    model, spec_769 = to_onnx(make_model(name), size=(64, 96))
    assert spec_769 == replace(spec, model=name, align_corners=True)
    for part in ("node", "initializer", "input", "output"):
        assert list(getattr(model.graph, part)) == list(getattr(plain.graph, part))


@pytest.mark.parametrize("size", [(64, 96), (71, 33), (8, 8), (1, 1)])
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_equal_those_of_the_module_at_other_sizes_and_batches(tiny_model, size, batch):
    model, spec = to_onnx(tiny_model, size=size, batch=batch)
    assert (spec.input_size, spec.batch) == (size, batch)
    assert difference(model, tiny_model.module, (batch, 3, *size)) < TOLERANCE


def test_images_of_a_batch_do_not_mix(tiny_model):
    images = np.random.default_rng(2).standard_normal((3, 3, 64, 96), np.float32)
    single, _ = to_onnx(tiny_model, size=(64, 96))
    triple, _ = to_onnx(tiny_model, size=(64, 96), batch=3)
    expected = np.concatenate([run(single, image[None]) for image in images])
    np.testing.assert_allclose(run(triple, images), expected, rtol=0, atol=TOLERANCE)


SHAPES = ShapeRange(min_size=(33, 64), max_size=(128, 128), min_batch=1, max_batch=3)


@pytest.mark.parametrize("name", ["fcn_r18-d8", "fcn_resnet50", "fcn_d6_r50-d16"])
def test_dynamic_network_equals_the_static_one_at_each_shape(make_model, name):
    loaded = make_model(name)
    model, spec = to_onnx(loaded, size=(64, 96), dynamic=SHAPES)
    assert spec == replace(to_onnx(loaded, size=(64, 96))[1], dynamic=SHAPES)
    for size in ((33, 64), (64, 96), (128, 128)):
        for batch in (1, 3):
            image = np.random.default_rng(1).standard_normal((batch, 3, *size), np.float32)
            static, _ = to_onnx(loaded, size=size, batch=batch)
            expected = run(static, image)
            np.testing.assert_allclose(run(model, image), expected, rtol=0, atol=1e-5)


def test_openvino_computes_every_shape_of_a_dynamic_network(tiny_model):
    from fcn_trt.engine.openvino.builder import openvino_core

    model, _ = to_onnx(tiny_model, size=(64, 96), dynamic=SHAPES)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    network = openvino_core().read_model(model.SerializeToString())
    compiled = openvino_core().compile_model(network, "CPU", hint)
    for shape in ((1, 3, 33, 64), (3, 3, 64, 96), (2, 3, 128, 128)):
        image = np.random.default_rng(1).standard_normal(shape, np.float32)
        with torch.no_grad():
            expected = tiny_model.module(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(compiled(image)[0], expected, rtol=0, atol=1e-3)


def test_dynamic_network_takes_the_shape_that_it_is_optimised_for(tiny_model):
    with pytest.raises(ValueError, match="width 129 is not within its range of 64 to 128"):
        to_onnx(tiny_model, size=(64, 129), dynamic=SHAPES)


@pytest.mark.parametrize("name", ["fcn_r18-d8", "fcn_resnet50", "fcn_d6_r50b-d16"])
def test_nodes_are_called_as_the_modules_are(make_model, name):
    loaded = make_model(name)
    model, _ = to_onnx(loaded, size=(64, 96))
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    modules = dict(loaded.module.named_modules())
    for node in model.graph.node:
        if node.op_type in ("Conv", "MaxPool"):
            assert type(modules[node.name]).__name__ in (f"{node.op_type}2d", "MaxPool2d")
        else:
            assert re.fullmatch(r"(backbone|decode_head)(\.\w+)+", node.name)
    for before, here in (("add", "Add"), ("cat", "Concat")):
        assert all(f".{before}" in n.name for n in model.graph.node if n.op_type == here)
    assert names[0] == "backbone.stem.0"
    assert names[-1] == "decode_head.conv_seg"


def test_graph_has_the_operators_of_an_fcn_and_nothing_else(make_model):
    model, _ = to_onnx(make_model(), size=(64, 96))
    assert Counter(node.op_type for node in model.graph.node) == {
        "Conv": 26,
        "Relu": 22,
        "Add": 8,
        "MaxPool": 1,
        "Concat": 1,
    }


def test_spec_says_what_the_model_is_and_stands_in_the_metadata(make_model, tmp_path):
    camvid = label_set("camvid")
    loaded = replace(
        make_model(classes=11),
        weights="last.pth",
        source_sha256="ab" * 32,
        licence="CC0",
        labels=camvid,
    )
    model, spec = to_onnx(loaded, size=(64, 96))
    save(model, tmp_path / "n.onnx")
    assert load_network(tmp_path / "n.onnx")[1] == spec
    assert (spec.weights, spec.source_sha256, spec.licence) == ("last.pth", "ab" * 32, "CC0")
    assert (spec.labels, spec.classes, spec.palette) == ("camvid", camvid.classes, camvid.palette)
    assert (spec.mean, spec.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (spec.precision, spec.logits_type) == ("fp32", "float32")


def test_same_model_gives_the_same_bytes(make_model):
    first, again = (to_onnx(make_model(), size=(64, 96))[0].SerializeToString() for _ in range(2))
    assert first == again


def test_module_is_left_as_it_is(make_model):
    loaded = make_model()
    before = {name: tensor.clone() for name, tensor in loaded.module.state_dict().items()}
    to_onnx(loaded, size=(64, 96))
    assert not loaded.module.training
    after = loaded.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_size_smaller_than_any_network_allows_is_refused(tiny_model):
    with pytest.raises(ValueError, match="must all be at least 1"):
        to_onnx(tiny_model, size=(0, 96))
    with pytest.raises(ValueError, match="must all be at least 1"):
        to_onnx(tiny_model, size=(64, 96), batch=0)


def test_weights_are_float32_and_named_after_their_nodes(tiny_model):
    model, _ = to_onnx(tiny_model, size=(64, 96))
    convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
    assert [t.name for t in model.graph.initializer] == [
        f"{conv}.{part}" for conv in convs for part in ("weight", "bias")
    ]
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT}
