from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from fcn_trt.calibration.cache import read_calibration, write_calibration
from fcn_trt.calibration.calibrate import calibrate
from fcn_trt.calibration.images import RangeImages
from fcn_trt.errors import (
    CalibrationError,
    CheckpointError,
    OnnxError,
    OutputError,
    PlanError,
    WeightsError,
)
from fcn_trt.files import sha256
from fcn_trt.labels import label_set
from fcn_trt.model import weights as published_weights
from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.load import load_model
from fcn_trt.model.profile import default_labels
from fcn_trt.model.weights import Trust, find_model
from fcn_trt.network.contract import load_network
from fcn_trt.pipeline.plan import Export
from fcn_trt.precision.qdq import convolution_names
from fcn_trt.precision.type_network import type_network
from fcn_trt.spec import ShapeRange, read_spec
from tests.plans import as_network, export_network, save

SIZE = (32, 64)


def loaded(model, weights=None, labels=None):
    chosen = None if labels is None else label_set(labels)
    return load_model(find_model(model, weights), labels=chosen)


@pytest.fixture
def checkpoint(tiny, saved):
    """A checkpoint that says what it is."""
    return saved({"state_dict": tiny(classes=11).state_dict(), "meta": {"model": "fcn_r18-d8"}})


def test_checkpoint_that_says_what_it_is_needs_no_name(checkpoint, tmp_path):
    spec = export_network(str(checkpoint.path), tmp_path / "m.onnx", size=SIZE)
    assert read_spec(tmp_path / "m.onnx") == spec
    assert (spec.model, spec.weights, spec.labels) == ("fcn_r18-d8", "last.pth", "custom")
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
    from fcn_trt.engine.openvino.builder import build_openvino
    from fcn_trt.runtime.segmenter import Segmenter

    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_network(str(checkpoint.path), first, size=SIZE)
    spec = export_network(str(first), second, size=SIZE, batch=2)
    assert spec.batch == 2
    maps = []
    for network in (first, second):
        with Segmenter.load(
            build_openvino(as_network(network), tmp_path / network.stem).path
        ) as segmenter:
            maps.append(segmenter.segment(make_frame()))
    assert np.mean(maps[0] == maps[1]) > 0.999


def test_random_weights_are_those_of_their_seed():
    first = loaded("fcn_r18-d8", "random:5").module.state_dict()
    again = loaded("fcn_r18-d8", "random:5").module.state_dict()
    other = loaded("fcn_r18-d8", "random").module.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["decode_head.conv_seg.weight"], other["decode_head.conv_seg.weight"]
    )


def test_random_weights_take_the_family_s_labels_or_those_that_were_asked():
    assert loaded("fcn_r18-d8", "random").labels.name == "cityscapes"
    assert loaded("fcn_r18-d8", "random", "camvid").labels.name == "camvid"
    assert {default_labels(arch) for arch in ARCHITECTURES.values()} == {"voc", "cityscapes"}
    assert default_labels(architecture("fcn_resnet50")) == "voc"


@pytest.fixture
def published(checkpoint, tmp_path, monkeypatch):
    """The checkpoint as published weights that were put into the cache; returns their name."""
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
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(published_weights, "registry", lambda: (entry,))
    folder = tmp_path / "cache" / "fcn_trt" / "weights"
    folder.mkdir(parents=True)
    checkpoint.path.rename(folder / "fcn.pth")
    return entry.name


def test_name_of_published_weights_is_a_model_once_they_are_trusted(published):
    with pytest.raises(WeightsError, match="which is no proof"):
        loaded(published)
    find_model(published, trust=Trust(is_given=True))
    found = loaded(published)
    assert (found.module.arch.name, found.weights) == ("fcn_r18-d8", published)
    assert found.labels.name == "camvid"


def test_what_is_trusted_is_part_of_the_key(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    entry = replace(
        published_weights.published_for("fcn_r18-d8")[0], sha256_prefix=checkpoint.sha256[:8]
    )
    monkeypatch.setattr(published_weights, "registry", lambda: (entry,))
    step = Export(model=str(checkpoint.path), size=SIZE)
    unknown = step.inputs(None)
    trusted = Export(model=step.model, size=SIZE, trust=Trust(sha256=checkpoint.sha256)).inputs(
        None
    )
    assert {name for name in unknown if unknown[name] != trusted[name]} == {"weights"}
    assert Export(model=step.model, size=SIZE).inputs(None) == trusted  # it is pinned now


@pytest.mark.parametrize("trust", [Trust(is_given=True), Trust(sha256="a" * 64)])
def test_onnx_file_is_nothing_to_trust(trust):
    with pytest.raises(PlanError, match="it is about a checkpoint"):
        Export(model="m.onnx", size=SIZE, trust=trust)


def test_name_of_published_weights_takes_no_others(published):
    with pytest.raises(ValueError, match="1k_camvid is a checkpoint itself; leave them out"):
        loaded(published, "random")


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("fcn_r34-d8", {}, ValueError, "unknown model 'fcn_r34-d8'; `fcn-trt models` lists the "),
        ("gone.pth", {}, WeightsError, r"gone\.pth is neither a file nor a published checkpoint"),
        ("m.onnx", {"weights": "random"}, ValueError, r"an \.onnx file carries its weights; leave"),
        ("m.pth", {"weights": "random"}, ValueError, r"m\.pth is a checkpoint itself; leave the"),
        ("random:1.5", {}, WeightsError, "random:1.5 has no seed of 1 to 18 digits"),
        ("fcn_d6_r50b-d16", {}, WeightsError, "no weights are published for fcn_d6_r50b-d16; giv"),
        ("gone.onnx", {}, OnnxError, r"gone\.onnx cannot be read: No such file or direct"),
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
        loaded("random")


def test_checkpoint_of_another_model_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match=r"last\.pth is not fcn_r50-d8; it is fcn_r18-d8"):
        loaded("fcn_r50-d8", str(checkpoint.path))


def test_missing_folder_leaves_nothing(checkpoint, tmp_path):
    with pytest.raises(OutputError, match=r"gone/m\.onnx cannot be written: No such file"):
        export_network(str(checkpoint.path), tmp_path / "gone" / "m.onnx", size=SIZE)
    assert not (tmp_path / "gone").exists()


def test_range_of_shapes_is_exported_and_kept_when_typed(checkpoint, tmp_path):
    shapes = ShapeRange(min_size=SIZE, max_size=(64, 64), min_batch=1, max_batch=2)
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    spec = export_network(str(checkpoint.path), first, size=SIZE, dynamic=shapes)
    assert spec.dynamic == shapes
    again = export_network(str(first), second, size=SIZE, dynamic=shapes)
    assert replace(again, checks=spec.checks) == spec
    assert [(check.against, check.agreement) for check in again.checks] == [
        ("PyTorch", 1.0),
        ("first.onnx in ONNX Runtime", 1.0),
    ]
    assert type_network(as_network(second), second, "fp16").spec.dynamic == shapes
    assert export_network(str(first), second, size=SIZE).dynamic is None


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_network_can_be_typed_in_place(tiny_network, tmp_path, precision):
    network = tmp_path / "m.onnx"
    network.write_bytes(tiny_network.read_bytes())
    spec = type_network(as_network(network), network, precision).spec
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
        as_network(tiny_network),
        tmp_path / "m.onnx",
        precision,
        images=frames,
        on_image=lambda: seen.append(1),
    ).spec
    assert (spec.exceptions, len(seen)) == ({}, looked_at)


def test_what_stays_fp32_is_said(tiny_network, tmp_path, make_frame, monkeypatch, caplog):
    monkeypatch.setattr("fcn_trt.precision.fp16_range.FP16_LIMIT", 2.7)  # the logits are beyond it
    with caplog.at_level("INFO"):
        spec = type_network(
            as_network(tiny_network), tmp_path / "m.onnx", "fp16", images=[make_frame()]
        ).spec
    assert spec.exceptions["decode_head.conv_seg"] == "fp32"
    assert "does not fit fp16 at " in caplog.text
    assert read_spec(tmp_path / "m.onnx") == spec


def test_network_that_has_the_precision_already_is_copied(tiny_network, tmp_path):
    spec = type_network(as_network(tiny_network), tmp_path / "m.onnx", "fp32").spec
    assert spec == read_spec(tiny_network)
    assert load_network(tmp_path / "m.onnx")[0] == load_network(tiny_network)[0]


def test_precision_that_cannot_be_had_is_named(tiny_network, tmp_path):
    with pytest.raises(OnnxError, match=r"tiny\.onnx is fp32 and cannot become int8"):
        type_network(as_network(tiny_network), tmp_path / "m.onnx", "int8")
    typed = tmp_path / "typed.onnx"
    type_network(as_network(tiny_network), typed, "bf16")
    for precision in ("fp32", "fp16"):
        with pytest.raises(OnnxError, match="bf16"):
            type_network(as_network(typed), tmp_path / "m.onnx", precision, images=[])
    assert [path.name for path in tmp_path.iterdir()] == ["typed.onnx"]


def calibrated(network, path, method="mse"):
    """Calibrate on four drawn streets; gives the path of the cache."""
    images = RangeImages(streets=4, size=read_spec(network).input_size)
    write_calibration(
        calibrate(as_network(network), images, method=method, created="2026-11-21"), path
    )
    return path


@pytest.fixture(scope="module")
def calibration(tiny_network, tmp_path_factory):
    """The cache of the tiny network. Read only."""
    return calibrated(tiny_network, tmp_path_factory.mktemp("ranges") / "ranges.json")


@pytest.fixture
def quantise(tiny_network, calibration, tmp_path):
    """Type the tiny network; gives its spec and its graph."""

    def make(precision="int8", *, network=tiny_network, ranges=calibration, **options):
        out = tmp_path / "typed.onnx"
        spec = type_network(as_network(network), out, precision, calibration=ranges, **options).spec
        model, stored = load_network(out)
        assert stored == spec
        onnx.checker.check_model(model, full_check=True)
        return spec, model

    return make


def weights_of(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def convolutions_of(model):
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


class TestQuantisation:
    @pytest.mark.parametrize("precision", ["int8", "fp8"])
    @pytest.mark.parametrize(("rest", "kind"), [("fp16", np.float16), ("fp32", np.float32)])
    def test_spec_says_all_of_it(self, quantise, tiny_network, calibration, precision, rest, kind):
        fp32 = load_network(tiny_network)[0].graph
        spec, model = quantise(precision, float_precision=rest)
        assert (spec.precision, spec.float_precision) == (precision, rest)
        left = set(convolutions_of(model)) - set(convolution_names(fp32, precision))
        assert spec.exceptions == dict.fromkeys(left, rest)
        assert len(left) == {"int8": 0, "fp8": 18 - 4}[precision]  # 4 have 32 channels and more
        assert spec.calibration_sha256 == sha256(calibration)
        weights = weights_of(model)
        scale = weights["backbone.layer4.0.relu.scale"]
        assert scale.dtype == weights["backbone.stem.0.bias"].dtype == kind

    def test_rest_is_fp16_unless_asked_otherwise(self, quantise):
        assert quantise()[0].float_precision == "fp16"

    def test_rest_in_fp32_keeps_the_opset_of_the_network(self, quantise):
        for options, opset in (({"float_precision": "fp32"}, 17), ({}, 19)):
            assert [o.version for o in quantise(**options)[1].opset_import] == [opset]

    @pytest.mark.parametrize("rest", ["fp16", "fp32"])
    def test_first_and_last_stand_for_the_ends(self, quantise, rest):
        keep = frozenset({"first", "last", "backbone.layer1.0.conv1"})
        spec, model = quantise(keep=keep, float_precision=rest)
        kept = ["backbone.stem.0", "backbone.layer1.0.conv1", "decode_head.conv_seg"]
        assert list(spec.exceptions.items()) == [(name, rest) for name in kept]
        quantised = {n.name for n in model.graph.node if n.op_type == "DequantizeLinear"}
        for name in convolutions_of(model):
            assert (f"{name}.weight.dequantized" in quantised) == (name not in kept)

    def test_method_may_be_another_than_the_cache_s(self, quantise):
        found = {
            method: float(weights_of(quantise(method=method)[1])["backbone.maxpool.scale"])
            for method in (None, "mse", "minmax")
        }
        assert found[None] == found["mse"] < found["minmax"]

    @pytest.mark.parametrize(("precision", "largest"), [("int8", 127), ("fp8", 448)])
    def test_mse_is_chosen_for_the_precision(self, quantise, calibration, precision, largest):
        cache, name = read_calibration(calibration), "backbone.layer4.0.relu"
        chosen = {kind: cache.amaxes("mse", kind)[name] for kind in ("int8", "fp8")}
        assert chosen["fp8"] != pytest.approx(chosen["int8"], rel=0.01)
        scale = float(weights_of(quantise(precision)[1])[f"{name}.scale"])
        assert scale * largest == pytest.approx(chosen[precision], rel=2**-10)

    def test_name_that_there_is_not_is_refused(self, quantise, tmp_path):
        with pytest.raises(ValueError, match="fcn_r18-d8 has no convolution 'conv9' to keep in fl"):
            quantise(keep=frozenset({"conv9", "first"}))
        assert not list(tmp_path.iterdir())

    def test_cache_of_another_network_is_refused(
        self, make_model, write_network, quantise, tmp_path
    ):
        other = write_network(make_model(seed=5), tmp_path / "other.onnx")
        message = r"ranges\.json was made for another network, fcn_r18-d8 with random \(seed 2\)"
        with pytest.raises(CalibrationError, match=message):
            quantise(network=other)
        assert not (tmp_path / "typed.onnx").exists()

    def test_cache_holds_for_another_size(self, tiny_model, write_network, quantise, tmp_path):
        larger = write_network(tiny_model, tmp_path / "larger.onnx", size=(96, 128))
        spec, _ = quantise(network=larger)
        assert spec.input_size == (96, 128)

    def test_missing_cache_is_refused(self, quantise, tmp_path):
        with pytest.raises(CalibrationError, match=r"gone\.json cannot be read: No such file"):
            quantise(ranges=tmp_path / "gone.json")

    @pytest.mark.parametrize("precision", ["int8", "fp8"])
    def test_network_without_a_calibration_is_refused(self, tiny_network, tmp_path, precision):
        message = rf"tiny\.onnx is fp32 and cannot become {precision}"
        with pytest.raises(OnnxError, match=message):
            type_network(as_network(tiny_network), tmp_path / "m.onnx", precision)
        assert not list(tmp_path.iterdir())


class TestQuantisationOfWhatDoesNotFitFp16:
    @pytest.fixture
    def large(self, tiny_network, tmp_path):
        """The tiny network with a residual of 1e5 and more, beside which a branch stays small."""
        model, _ = load_network(tiny_network)
        for name, factor in (
            ("backbone.stem.6.weight", 1e6),
            ("backbone.stem.6.bias", 1e6),
            ("backbone.layer1.0.conv1.weight", 1e-6),
            ("backbone.layer2.0.conv1.weight", 1e-6),
            ("backbone.layer2.0.downsample.0.weight", 1e-6),
        ):
            (tensor,) = (t for t in model.graph.initializer if t.name == name)
            values = onnx.numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.raw_data = values.tobytes()
        save(model, tmp_path / "large.onnx")
        return tmp_path / "large.onnx"

    LARGE = (
        "backbone.stem.6",
        "backbone.stem.8",
        "backbone.maxpool",
        "backbone.layer1.0.conv1",
        "backbone.layer1.0.add",
        "backbone.layer1.0.relu.2",
        "backbone.layer2.0.conv1",
        "backbone.layer2.0.downsample.0",
    )
    """The nodes that read or write it."""

    def test_its_nodes_stay_fp32_and_are_not_quantised(self, large, quantise, tmp_path):
        ranges = calibrated(large, tmp_path / "large.json")
        spec, model = quantise(network=large, ranges=ranges)
        assert spec.exceptions == dict.fromkeys(self.LARGE, "fp32")
        assert (spec.precision, spec.float_precision) == ("int8", "fp16")
        made = {name for node in model.graph.node for name in node.output}
        # Behind a DQ whose result is FP16 they would be infinite.
        small = "backbone.layer2.0.downsample.0"  # which reads what is large
        assert {f"{name}.dequantized" for name in self.LARGE} & made == {f"{small}.dequantized"}
        assert "backbone.layer1.0.relu.dequantized" in made

    def test_with_an_fp32_rest_they_are_quantised_as_any_other(self, large, quantise, tmp_path):
        ranges = calibrated(large, tmp_path / "large.json")
        spec, model = quantise(network=large, ranges=ranges, float_precision="fp32")
        assert spec.exceptions == {}
        made = {name for node in model.graph.node for name in node.output}
        assert {"backbone.maxpool.dequantized", "backbone.layer1.0.relu.2.dequantized"} < made
