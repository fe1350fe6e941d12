import numpy as np
import pytest
import torch

from fcn_trt.errors import CheckpointError, OnnxError, OutputError, WeightsError
from fcn_trt.export import weights as published_weights
from fcn_trt.export.architecture import ARCHITECTURES, architecture
from fcn_trt.export.network import load_network
from fcn_trt.export.pipeline import default_labels, export_network, load_model, type_network
from fcn_trt.files import sha256
from fcn_trt.spec import ShapeRange, read_spec

SIZE = (32, 64)


@pytest.fixture
def checkpoint(tiny, saved):
    """A checkpoint that says what it is."""
    return saved({"state_dict": tiny(classes=11).state_dict(), "meta": {"model": "fcn_r18-d8"}})


def test_checkpoint_that_says_what_it_is_needs_no_name(checkpoint, tmp_path):
    spec = export_network(str(checkpoint.path), tmp_path / "m.onnx", size=SIZE)
    assert read_spec(tmp_path / "m.onnx") == spec
    assert (spec.model, spec.weights, spec.labels) == ("fcn_r18-d8", "last.pth", "camvid")
    assert spec.source_sha256 == sha256(checkpoint.path)
    assert (spec.input_size, spec.batch, spec.precision) == (SIZE, 1, "fp32")


def test_name_and_weights_give_the_same_as_the_checkpoint_alone(checkpoint, tmp_path):
    for name, model, weights in (
        ("a.onnx", str(checkpoint.path), None),
        ("b.onnx", "fcn_r18-d8", str(checkpoint.path)),
    ):
        export_network(model, tmp_path / name, size=SIZE, weights=weights)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_imported_network_computes_what_the_exported_one_does(checkpoint, tmp_path, make_frame):
    from fcn_trt.engine.openvino import build_openvino
    from fcn_trt.runtime.segmenter import Segmenter

    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_network(str(checkpoint.path), first, size=SIZE)
    spec = export_network(str(first), second, size=SIZE, batch=2)
    assert spec.batch == 2
    maps = []
    for network in (first, second):
        with Segmenter.load(build_openvino(network, tmp_path / network.stem).path) as segmenter:
            maps.append(segmenter.segment(make_frame()))
    assert np.mean(maps[0] == maps[1]) > 0.999


def test_random_weights_are_those_of_their_seed():
    first = load_model("fcn_r18-d8", "random:5").module.state_dict()
    again = load_model("fcn_r18-d8", "random:5").module.state_dict()
    other = load_model("fcn_r18-d8", "random").module.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["decode_head.conv_seg.weight"], other["decode_head.conv_seg.weight"]
    )


def test_random_weights_take_the_family_s_labels_or_those_that_were_asked():
    assert load_model("fcn_r18-d8", "random").labels.name == "cityscapes"
    assert load_model("fcn_r18-d8", "random", "camvid").labels.name == "camvid"
    assert {default_labels(arch) for arch in ARCHITECTURES.values()} == {"voc", "cityscapes"}
    assert default_labels(architecture("fcn_resnet50")) == "voc"


@pytest.fixture
def published(checkpoint, tmp_path, monkeypatch):
    """The checkpoint as published weights that were fetched already; returns their name."""
    entry = published_weights.PublishedWeights(
        name="fcn_r18-d8_64x64_1k_camvid",
        model="fcn_r18-d8",
        url="https://localhost/fcn.pth",
        sha256_prefix=checkpoint.sha256[:8],
        labels="camvid",
        crop="64x64",
        miou=70.0,
        miou_ms_flip=None,
        measured_on="CamVid val",
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(published_weights, "registry", lambda: (entry,))
    folder = tmp_path / "cache" / "fcn_trt" / "weights"
    folder.mkdir(parents=True)
    checkpoint.path.rename(folder / "fcn.pth")
    return entry.name


def test_name_of_published_weights_is_a_model(published):
    loaded = load_model(published)
    assert (loaded.module.arch.name, loaded.weights) == ("fcn_r18-d8", published)
    assert loaded.labels.name == "camvid"


def test_name_of_published_weights_takes_no_others(published):
    with pytest.raises(ValueError, match="1k_camvid is a checkpoint itself; leave --weights out"):
        load_model(published, "random")


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("fcn_r34-d8", {}, ValueError, "unknown model 'fcn_r34-d8'; `fcn-trt models` lists the "),
        ("gone.pth", {}, WeightsError, r"gone\.pth is neither a file nor a published checkpoint"),
        ("m.onnx", {"weights": "random"}, ValueError, r"an \.onnx file carries its weights; leave"),
        ("m.pth", {"weights": "random"}, ValueError, r"m\.pth is a checkpoint itself; leave --wei"),
        ("random:1.5", {}, WeightsError, "random:1.5 has no seed of 1 to 18 digits"),
        ("fcn_d6_r50b-d16", {}, WeightsError, "no weights are published for fcn_d6_r50b-d16; giv"),
        ("gone.onnx", {}, OnnxError, r"gone\.onnx cannot be read as ONNX: No such file or direct"),
    ],
)
def test_what_cannot_be_exported_is_named_and_leaves_nothing(
    tmp_path, monkeypatch, model, options, error, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        export_network(model, tmp_path / "out.onnx", size=SIZE, **options)
    assert list(tmp_path.iterdir()) == []


def test_random_weights_without_a_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random").write_text("a file of this name")
    with pytest.raises(ValueError, match="random weights need the name of a model"):
        load_model("random")


def test_checkpoint_of_another_model_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match=r"last\.pth is not fcn_r50-d8; it is fcn_r18-d8"):
        load_model("fcn_r50-d8", str(checkpoint.path))


def test_missing_folder_leaves_nothing(checkpoint, tmp_path):
    with pytest.raises(OutputError, match=r"gone/m\.onnx cannot be written: No such file"):
        export_network(str(checkpoint.path), tmp_path / "gone" / "m.onnx", size=SIZE)
    assert not (tmp_path / "gone").exists()


def test_range_of_shapes_is_exported_and_kept_when_typed(checkpoint, tmp_path):
    shapes = ShapeRange(min_size=SIZE, max_size=(64, 64), min_batch=1, max_batch=2)
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    spec = export_network(str(checkpoint.path), first, size=SIZE, dynamic=shapes)
    assert spec.dynamic == shapes
    assert export_network(str(first), second, size=SIZE, dynamic=shapes) == spec
    assert type_network(second, second, "fp16").dynamic == shapes
    assert export_network(str(first), second, size=SIZE).dynamic is None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_network_can_be_typed_in_place(tiny_network, tmp_path, precision):
    network = tmp_path / "m.onnx"
    network.write_bytes(tiny_network.read_bytes())
    spec = type_network(network, network, precision)
    assert (spec.precision, spec.exceptions) == (precision, {})
    model, stored = load_network(network)
    assert stored == spec
    assert any(node.op_type == "Cast" for node in model.graph.node)


@pytest.mark.parametrize(("precision", "looked_at"), [("fp16", 3), ("bf16", 0), ("fp32", 0)])
def test_images_are_looked_at_for_fp16_only(
    tiny_network, tmp_path, make_frame, precision, looked_at
):
    seen: list[int] = []
    frames = (make_frame(seed=seed) for seed in range(3))
    spec = type_network(
        tiny_network,
        tmp_path / "m.onnx",
        precision,
        images=frames,
        on_image=lambda: seen.append(1),
    )
    assert (spec.exceptions, len(seen)) == ({}, looked_at)


def test_what_stays_fp32_is_said(tiny_network, tmp_path, make_frame, monkeypatch, caplog):
    monkeypatch.setattr("fcn_trt.export.fp16_range.FP16_LIMIT", 2.7)  # the logits are beyond it
    with caplog.at_level("INFO"):
        spec = type_network(tiny_network, tmp_path / "m.onnx", "fp16", images=[make_frame()])
    assert spec.exceptions["decode_head.conv_seg"] == "fp32"
    assert "does not fit fp16 at " in caplog.text
    assert read_spec(tmp_path / "m.onnx") == spec


def test_network_that_has_the_precision_already_is_copied(tiny_network, tmp_path):
    spec = type_network(tiny_network, tmp_path / "m.onnx", "fp32")
    assert spec == read_spec(tiny_network)
    assert load_network(tmp_path / "m.onnx")[0] == load_network(tiny_network)[0]


def test_precision_that_cannot_be_had_is_named(tiny_network, tmp_path):
    with pytest.raises(OnnxError, match=r"tiny\.onnx is fp32 and cannot become int8"):
        type_network(tiny_network, tmp_path / "m.onnx", "int8")
    typed = tmp_path / "typed.onnx"
    type_network(tiny_network, typed, "bf16")
    for precision in ("fp32", "fp16"):
        with pytest.raises(OnnxError, match="bf16"):
            type_network(typed, tmp_path / "m.onnx", precision, images=[])
    assert [path.name for path in tmp_path.iterdir()] == ["typed.onnx"]
