"""Advice on a user's own network: from its file alone, as good as on a model that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="needs the extra: pip install 'fcn-trt[export]'")

from fcn_trt.advice.candidates import advise_on
from fcn_trt.advice.devices import device
from fcn_trt.advice.estimate import estimate
from fcn_trt.advice.network import ModelNetwork
from fcn_trt.advice.own_network import OwnNetwork
from fcn_trt.advice.remarks import choices, doubts, measuring, remarks
from fcn_trt.errors import BundleError, EngineError, OnnxError
from fcn_trt.model.architecture import architecture
from fcn_trt.precision.type_network import type_network
from fcn_trt.spec import Precision, Size
from tests.plans import as_network, export_network

ORIN = device("orin-nano-super")


@pytest.fixture(scope="module")
def r18(tmp_path_factory):
    """fcn_r18-d8 with all of its channels, at 512x1024."""
    path = tmp_path_factory.mktemp("own") / "r18.onnx"
    export_network("fcn_r18-d8", path, size=(512, 1024), weights="random")
    return OwnNetwork.read(path)


def test_file_is_estimated_as_the_model_in_it(r18):
    known = ModelNetwork(architecture("fcn_r18-d8"))
    for size in ((512, 1024), (256, 512)):
        ours, theirs = (estimate(ORIN, n.at(size), precision="fp16") for n in (r18, known))
        assert ours.rate_fps == pytest.approx(theirs.rate_fps, rel=1e-3)
        assert ours.memory_bytes == pytest.approx(theirs.memory_bytes, rel=1e-3)
        assert ours.doubt == theirs.doubt


def test_advice_has_each_size_and_type_and_begins_with_its_own_size(r18):
    found = advise_on(r18, ORIN, rate_fps=30)
    keys = {(c.estimate.size, c.estimate.precision) for c in found.candidates}
    assert len(keys) == len(found.candidates) == 3 * len(ORIN.tops)
    assert found.shown == found.candidates
    first = found.candidates[0]
    assert (first.estimate.size, first.estimate.precision, first.reach) == (
        (512, 1024),
        "fp16",
        "fits",
    )
    assert first.miou is None
    assert choices(found)[0].startswith("first choice: r18.onnx at 512x1024 in fp16")
    assert not any("mIoU" in line for line in (*choices(found), *doubts(found)))
    assert not any("--dataset" in line for line in remarks(found))
    assert measuring(found) == (
        f"fcn-trt build {r18.path} --target tensorrt --precision fp16 --out r18_fp16 && "
        "fcn-trt bench r18_fp16"
    )


def test_other_size_has_to_be_exported_first(r18):
    found = advise_on(r18, ORIN, rate_fps=30, sizes=[(256, 512)], precisions=["int8"])
    assert measuring(found) == (
        "fcn-trt export MODEL --size 256x512 --out r18_256x512.onnx && fcn-trt build "
        "r18_256x512.onnx --target tensorrt --precision int8 --calibration CACHE --out r18_int8 "
        "&& fcn-trt bench r18_int8"
    )


def test_bundle_is_advised_on_by_its_network(tiny_bundle):
    found = OwnNetwork.read(tiny_bundle.path)
    assert found.size == (64, 96)
    advice = advise_on(found, ORIN, rate_fps=30, precisions=["fp32"])
    assert measuring(advice) == (
        f"fcn-trt build {tiny_bundle.path}/network.onnx --target tensorrt --out tiny_fp32 && "
        "fcn-trt bench tiny_fp32"
    )


def test_typed_network_costs_what_it_is_made_of(tiny_network, tmp_path):
    typed = type_network(as_network(tiny_network), tmp_path / "bf16.onnx", "bf16")
    plain, half = (OwnNetwork.read(path).at((64, 96)) for path in (tiny_network, typed.path))
    assert [layer.macs for layer in half.layers] == [layer.macs for layer in plain.layers]
    assert half.peak_activations == plain.peak_activations
    assert half.doubts == ()
    own = OwnNetwork.read(typed.path)
    asked: list[tuple[Size, Precision]] = [
        ((64, 96), "fp16"),
        ((64, 96), "bf16"),
        ((32, 48), "bf16"),
    ]
    again, as_it_is, smaller = (
        str(measuring(advise_on(own, ORIN, rate_fps=30, sizes=[size], precisions=[kind])))
        for size, kind in asked
    )
    assert " bf16_32x48.onnx --target tensorrt --precision bf16 --out " in smaller
    assert again.startswith("fcn-trt export MODEL --size 64x96 --out bf16_64x96.onnx && ")
    assert as_it_is.startswith(f"fcn-trt build {typed.path} --target tensorrt --out bf16_bf16 && ")


def test_layers_that_no_published_network_has_are_a_doubt(tiny_network, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_network)
    del model.metadata_props[:]
    (out,) = model.graph.output
    model.graph.node.append(onnx.helper.make_node("Softmax", [out.name], ["soft"], axis=1))
    out.name = "soft"
    onnx.save(model, tmp_path / "soft.onnx")
    found = OwnNetwork.read(tmp_path / "soft.onnx")
    assert found.spec is None
    advice = advise_on(found, ORIN, rate_fps=30, sizes=[(64, 96)], precisions=["fp16"])
    assert "it has Softmax, which no network with a published rate has" in doubts(advice)
    plain = advise_on(
        OwnNetwork.read(tiny_network), ORIN, rate_fps=30, sizes=[(64, 96)], precisions=["fp16"]
    )
    factors = [one.candidates[0].estimate.doubt.factor for one in (plain, advice)]
    assert factors[0] < factors[1]
    # It has to be brought in before it is built.
    begin = f"fcn-trt export {found.path} --size 64x96 --out soft_64x96.onnx && "
    assert str(measuring(advice)).startswith(begin)


def test_size_that_it_does_not_take_is_left_out_unless_it_was_asked_for(tiny_network, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_network)
    (image,) = model.graph.input
    bias = onnx.helper.make_tensor("plane", onnx.TensorProto.FLOAT, [1, 3, 64, 96], [0.0] * 18432)
    model.graph.initializer.append(bias)
    for node in model.graph.node:
        node.input[:] = ["moved" if name == image.name else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Add", [image.name, "plane"], ["moved"]))
    onnx.save(model, tmp_path / "fixed.onnx")
    found = OwnNetwork.read(tmp_path / "fixed.onnx")
    advice = advise_on(found, ORIN, rate_fps=30)
    assert {c.estimate.size for c in advice.candidates} == {(64, 96)}
    assert advice.left_out == ("256x512", "512x1024", "1024x2048")
    assert "it takes no input of 256x512, 512x1024, 1024x2048" in remarks(advice)
    with pytest.raises(EngineError, match="cannot take 256x512 through"):
        advise_on(found, ORIN, rate_fps=30, sizes=[(256, 512)])


def test_what_nothing_fits_is_told_with_what_helps(r18):
    tiny = replace(ORIN, memory_gb=0.001)
    assert advise_on(r18, tiny, rate_fps=30).nearest is None
    slow = choices(advise_on(r18, ORIN, rate_fps=5000))
    assert slow[0] == "nothing is estimated to reach 5000 frames/s"
    assert any(line.startswith("at 128x256 it is estimated at") for line in slow)


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(OnnxError, match=r"m\.onnx cannot be read: No such file"):
        OwnNetwork.read(tmp_path / "m.onnx")
    with pytest.raises(BundleError, match="is no bundle"):
        OwnNetwork.read(tmp_path)
