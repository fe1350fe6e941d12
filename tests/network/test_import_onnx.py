"""Files as PyTorch exported them for the ONNX Model Zoo, with a small network inside."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation.fcn import FCN, FCNHead

from fcn_trt.errors import OnnxError
from fcn_trt.files import sha256
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import IMAGENET_MEAN
from fcn_trt.network.contract import load_network
from fcn_trt.network.import_onnx import import_onnx
from fcn_trt.network.to_onnx import to_onnx
from fcn_trt.precision.half import to_half
from fcn_trt.spec import METADATA_KEY, ShapeRange
from tests.plans import save

SIZE = (65, 103)
SHAPES = ShapeRange(min_size=(33, 47), max_size=(128, 128), min_batch=1, max_batch=3)
TOLERANCE = 1e-4


def layer(inputs, outputs, stride):
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def small_fcn(classes=21, *, auxiliary=True):
    """torchvision's FCN, with its real heads and upsampling, on four convolutions."""
    torch.manual_seed(0)
    stages = OrderedDict(
        layer1=layer(3, 8, 2),
        layer2=layer(8, 8, 2),
        layer3=layer(8, 16, 2),
        layer4=layer(16, 32, 1),
    )
    outputs = {"layer4": "out", **({"layer3": "aux"} if auxiliary else {})}
    backbone = IntermediateLayerGetter(nn.Sequential(stages), outputs)
    aux_classifier = FCNHead(16, classes) if auxiliary else None
    return FCN(backbone, FCNHead(32, classes), aux_classifier).eval()


class AlignedCorners(nn.Module):
    """pytorch-auto-drive's upsampling instead."""

    def __init__(self, fcn):
        super().__init__()
        self.fcn = fcn

    def forward(self, image):
        logits = self.fcn.classifier(self.fcn.backbone(image)["out"])
        size = image.shape[-2:]
        return nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=True)


class NoUpsampling(nn.Sequential):
    """Ends at its logits."""


def export(module, path, names, *, opset=11, dynamic=True):
    axes = {name: {0: "batch", 2: "height", 3: "width"} for name in ("input", *names)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated, but wrote the Zoo's files
        torch.onnx.export(
            module,
            (torch.zeros(1, 3, 64, 96),),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["input"],
            output_names=list(names),
            dynamic_axes=axes if dynamic else None,
        )
    return path


@pytest.fixture(scope="module")
def fcn():
    return small_fcn()


@pytest.fixture(scope="module")
def zoo(fcn, tmp_path_factory):
    """Opset 11, dynamic axes, outputs "out" and "aux", full-size Resize."""
    return export(fcn, tmp_path_factory.mktemp("zoo") / "fcn-small-11.onnx", ["out", "aux"])


@pytest.fixture
def edited(zoo, tmp_path):
    """The Zoo's file after a change to its graph."""

    def apply(change):
        model = onnx.load(zoo)
        change(model)
        onnx.save(model, tmp_path / "edited.onnx")
        return tmp_path / "edited.onnx"

    return apply


def imported(path, **options):
    """The model and its spec."""
    found = import_onnx(path, **options)
    return found.model, found.spec


def run(model, image):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(["logits"], {"image": image})[0]


def image_of(size, batch=1):
    return np.random.default_rng(0).standard_normal((batch, 3, *size), np.float32)


def close(ours, theirs):
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


class TestZooFile:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("size", [SIZE, (64, 96), (33, 47)])
    def test_upsampled_logits_equal_its_own_output(self, zoo, fcn, size, batch):
        model, spec = imported(zoo, size=size, batch=batch)
        logits = torch.from_numpy(run(model, image_of(size, batch)))
        with torch.no_grad():
            expected = fcn(torch.from_numpy(image_of(size, batch)))["out"].numpy()
        upsampled = nn.functional.interpolate(
            logits, size=size, mode="bilinear", align_corners=spec.align_corners
        )
        assert close(upsampled.numpy(), expected)

    def test_can_keep_its_dynamic_axes_within_a_range(self, zoo):
        model, spec = imported(zoo, size=SIZE, dynamic=SHAPES)
        assert spec == replace(imported(zoo, size=SIZE)[1], dynamic=SHAPES)
        for size, batch in (((33, 47), 1), (SIZE, 2), ((128, 128), 3)):
            fixed, _ = imported(zoo, size=size, batch=batch)
            image = image_of(size, batch)
            assert close(run(model, image), run(fixed, image))

    def test_loses_its_auxiliary_branch_and_its_upsampling(self, zoo):
        before = Counter(node.op_type for node in onnx.load(zoo).graph.node)
        assert before["Resize"] == 2
        model, _ = imported(zoo, size=SIZE)
        assert Counter(node.op_type for node in model.graph.node) == {"Conv": 6, "Relu": 5}
        used = {name for node in model.graph.node for name in node.input}
        assert {tensor.name for tensor in model.graph.initializer} == used - {
            "image",
            *(name for node in model.graph.node for name in node.output),
        }

    def test_gets_a_spec(self, zoo, tmp_path):
        model, spec = imported(zoo, size=SIZE, batch=2)
        assert (spec.model, spec.family, spec.weights) == (
            "fcn-small-11",
            "onnx",
            "fcn-small-11.onnx",
        )
        assert (spec.input_size, spec.batch, spec.stride) == (SIZE, 2, 8)
        assert (spec.labels, spec.classes[:2]) == ("custom", ("class_0", "class_1"))
        assert (spec.mean, spec.precision, spec.align_corners) == (IMAGENET_MEAN, "fp32", False)
        assert spec.source_sha256 == sha256(zoo)
        save(model, tmp_path / "n.onnx")
        assert load_network(tmp_path / "n.onnx")[1] == spec

    def test_auxiliary_output_can_be_kept_instead(self, zoo, fcn):
        model, _ = imported(zoo, size=SIZE, output="aux")
        with torch.no_grad():
            features = fcn.backbone(torch.from_numpy(image_of(SIZE)))["aux"]
            assert close(run(model, image_of(SIZE)), fcn.aux_classifier(features).numpy())

    def test_labels_can_be_chosen(self, tmp_path):
        path = export(small_fcn(7), tmp_path / "seven.onnx", ["out", "aux"])
        assert imported(path, size=SIZE)[1].classes == tuple(f"class_{i}" for i in range(7))
        with pytest.raises(OnnxError, match="camvid has 11 classes, but the network has 7"):
            imported(path, size=SIZE, labels=label_set("camvid"))


class TestOtherFiles:
    def test_aligned_corners_are_read_from_the_resize(self, fcn, tmp_path):
        path = export(AlignedCorners(fcn), tmp_path / "n.onnx", ["out"])
        _, spec = imported(path, size=SIZE)
        assert spec.align_corners

    @pytest.mark.parametrize(("opset", "dynamic"), [(17, True), (18, False)])
    def test_file_that_ends_at_its_logits_is_accepted(self, tmp_path, opset, dynamic, caplog):
        caplog.set_level("INFO", "fcn_trt.network")
        plain = small_fcn(auxiliary=False)
        stages = [*plain.backbone.values(), plain.classifier]
        module = NoUpsampling(*stages).eval()
        path = export(module, tmp_path / "n.onnx", ["y"], opset=opset, dynamic=dynamic)
        model, _ = imported(path, size=SIZE)
        assert "n.onnx ends at stride 8: assuming that its logits are upsampled" in caplog.text
        with torch.no_grad():
            expected = module(torch.from_numpy(image_of(SIZE))).numpy()
        assert close(run(model, image_of(SIZE)), expected)

    def test_what_stands_behind_the_logits_is_cut(self, edited):
        def classify(model):
            softmax = onnx.helper.make_node("Softmax", ["out"], ["probability"], axis=1)
            argmax = onnx.helper.make_node("ArgMax", ["probability"], ["label"], axis=1)
            model.graph.node.extend([softmax, argmax])
            del model.graph.output[:]
            model.graph.output.append(onnx.helper.make_tensor_value_info("label", 7, None))

        model, _ = imported(edited(classify), size=SIZE)
        assert model.graph.node[-1].op_type == "Conv"

    def test_weights_that_are_shared_through_identities_are_kept(self, edited, zoo):
        def share(model):
            conv = next(n for n in model.graph.node if n.op_type == "Conv")
            name, conv.input[1] = conv.input[1], "shared.twice"
            for source, copy in (("shared", "shared.twice"), (name, "shared")):
                identity = onnx.helper.make_node("Identity", [source], [copy])
                model.graph.node.insert(0, identity)

        image = image_of(SIZE)
        shared = imported(edited(share), size=SIZE)[0]
        assert "Identity" not in {node.op_type for node in shared.graph.node}
        np.testing.assert_array_equal(run(shared, image), run(imported(zoo, size=SIZE)[0], image))

    def test_every_node_gets_a_name_of_its_own(self, edited):
        def forget(model):
            for index, node in enumerate(model.graph.node):
                node.name = ("", "twice")[index % 2]

        model, _ = imported(edited(forget), size=SIZE)
        names = [node.name for node in model.graph.node]
        assert "" not in names
        assert len(set(names)) == len(names) > 5

    def test_constant_nodes_become_initializers(self, edited, zoo):
        def spell_out(model):
            conv = next(n for n in model.graph.node if n.op_type == "Conv")
            bias = next(t for t in model.graph.initializer if t.name == conv.input[2])
            constant = onnx.helper.make_node("Constant", [], [conv.input[2]], value=bias)
            model.graph.initializer.remove(bias)
            model.graph.node.insert(0, constant)

        model, _ = imported(edited(spell_out), size=SIZE)
        assert "Constant" not in {node.op_type for node in model.graph.node}
        expected = run(imported(zoo, size=SIZE)[0], image_of(SIZE))
        np.testing.assert_array_equal(run(model, image_of(SIZE)), expected)


class TestOurOwnFile:
    def test_keeps_its_spec_at_another_size_and_batch(self, tiny_network, tiny_model):
        _, before = load_network(tiny_network)
        model, spec = imported(tiny_network, size=SIZE, batch=2)
        assert spec == replace(before, input_size=SIZE, batch=2)
        assert [p.key for p in model.metadata_props] == [METADATA_KEY]
        with torch.no_grad():
            expected = tiny_model.module(torch.from_numpy(image_of(SIZE, 2))).numpy()
        assert close(run(model, image_of(SIZE, 2)), expected)

    def test_becomes_static_again_at_the_size_that_is_asked_for(self, tiny_model, tmp_path):
        model, spec = to_onnx(tiny_model, size=SIZE, dynamic=SHAPES)
        save(model, tmp_path / "n.onnx")
        static, static_spec = imported(tmp_path / "n.onnx", size=(64, 96), batch=2)
        assert static_spec == replace(spec, input_size=(64, 96), batch=2, dynamic=None)
        assert static == to_onnx(tiny_model, size=(64, 96), batch=2)[0]

    def test_becomes_dynamic_from_static(self, tiny_network, tiny_model):
        model, spec = imported(tiny_network, size=SIZE, dynamic=SHAPES)
        assert spec.dynamic == SHAPES
        assert close(
            run(model, image_of((33, 47), 3)),
            run(to_onnx(tiny_model, size=(33, 47), batch=3)[0], image_of((33, 47), 3)),
        )

    def test_gets_the_labels_that_are_asked_for_or_is_refused(
        self, make_model, write_network, tmp_path
    ):
        path = write_network(make_model(classes=11), tmp_path / "n.onnx")
        assert imported(path, size=SIZE)[1].labels == "custom"
        _, spec = imported(path, size=SIZE, labels=label_set("camvid"))
        assert (spec.labels, spec.classes) == ("camvid", label_set("camvid").classes)
        message = r"n\.onnx does not fit --labels: voc has 21 classes, but the network has 11"
        with pytest.raises(OnnxError, match=message):
            imported(path, size=SIZE, labels=label_set("voc"))

    def test_is_refused_when_it_is_typed_already(self, tiny_network, tmp_path):
        save(to_half(*load_network(tiny_network), "bf16")[0], tmp_path / "n.onnx")
        with pytest.raises(OnnxError, match=r"n\.onnx is bf16 already; start from the FP32"):
            imported(tmp_path / "n.onnx", size=SIZE)


def leave_it(model):
    pass


def add_input(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("mask", 1, ["n"]))


def take_bytes(model):
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8


def take_one_image(model):
    del model.graph.input[0].type.tensor_type.shape.dim[0]


def resize_of(model):
    return next(n for n in model.graph.node if n.op_type == "Resize" and n.output[0] == "out")


def resize_to_nearest(model):
    resize = resize_of(model)
    next(a for a in resize.attribute if a.name == "mode").s = b"nearest"


def resize_asymmetrically(model):
    attributes = resize_of(model).attribute
    next(a for a in attributes if a.name == "coordinate_transformation_mode").s = b"asymmetric"


def use_upsample(model):
    resize = resize_of(model)
    resize.op_type = "Upsample"
    resize.input[:] = [resize.input[0], "scales"]
    model.graph.initializer.append(onnx.helper.make_tensor("scales", 1, [4], [1, 1, 8, 8]))
    mode = next(a for a in resize.attribute if a.name == "mode")
    resize.ClearField("attribute")
    resize.attribute.append(mode)
    model.opset_import[0].version = 9  # the last that has it


def rename_outputs(model):
    for value, name in zip(model.graph.output, ("first", "second"), strict=True):
        node = next(n for n in model.graph.node if value.name in n.output)
        node.output[0] = value.name = name


def compute_nothing(model):
    name = model.graph.input[0].name
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Identity", [name], ["out"]))
    del model.graph.output[1:]


def quantise_logits(model):
    """The Zoo's int8 files: a QLinearConv, and a DequantizeLinear behind it."""
    conv = [n for n in model.graph.node if n.op_type == "Conv"][-2]
    last = resize_of(model)
    weights = {"one": np.float32(1), "zero": np.uint8(0), "w": np.zeros((21, 8, 1, 1), np.uint8)}
    for name, value in weights.items():
        tensor = onnx.numpy_helper.from_array(np.asarray(value), f"q.{name}")
        model.graph.initializer.append(tensor)
    scales = ["q.one", "q.zero"]
    nodes = [
        onnx.helper.make_node("QuantizeLinear", [conv.input[0], *scales], ["q.x"]),
        onnx.helper.make_node("QLinearConv", ["q.x", *scales, "q.w", *scales, *scales], ["q.y"]),
        onnx.helper.make_node("DequantizeLinear", ["q.y", *scales], ["q.out"]),
    ]
    at = list(model.graph.node).index(last)
    for node in reversed(nodes):
        model.graph.node.insert(at, node)
    last.input[0] = "q.out"


def flatten_logits(model):
    resize = resize_of(model)
    flat = onnx.helper.make_node("Flatten", [resize.input[0]], ["out"])
    model.graph.node.remove(resize)
    model.graph.node.append(flat)


def fix_the_size_inside(model):
    resize = resize_of(model)
    shape = onnx.numpy_helper.from_array(np.array([1, 21, 9, 13]), "inside")
    model.graph.initializer.append(shape)
    reshape = onnx.helper.make_node("Reshape", [resize.input[0], "inside"], ["fixed"])
    model.graph.node.insert(list(model.graph.node).index(resize), reshape)
    resize.input[0] = "fixed"


def use_unknown_operator(model):
    model.graph.node[0].op_type = "Kaleidoscope"


def use_unknown_opset(model):
    model.opset_import[0].version = 999


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (add_input, {}, "has 2 inputs, but an FCN has one image"),
        (
            take_bytes,
            {},
            "UINT8 that no Cast makes floats of before node Conv '/.*; export it with",
        ),
        (take_one_image, {}, r"has an input of 3 dimensions of FLOAT"),
        (resize_to_nearest, {}, "mode nearest and (pytorch_)?half_pixel .* bilinear with half_"),
        (resize_asymmetrically, {}, r"with mode linear and asymmetric coordinates at node \w+ '"),
        (use_upsample, {}, r"with mode linear and asymmetric coordinates at node \w+ '"),
        (rename_outputs, {}, "has the outputs first, second; name one with --output"),
        (leave_it, {"output": "logits"}, "has no output 'logits'; it has out, aux"),
        (compute_nothing, {}, "computes nothing between its input and 'out'"),
        (quantise_logits, {}, r"is quantised \(QuantizeLinear\); import the float32 file instead"),
        (flatten_logits, {}, r"shape .* at node Flatten 'out', but scores \(N, C, h, w\) were"),
        (use_unknown_operator, {}, "at node Kaleidoscope .*opset 11 has no Kaleidoscope"),
        (use_unknown_opset, {}, r"opset 999\) cannot be brought to 17"),
        (
            leave_it,
            {"labels": label_set("cityscapes")},
            "--labels: cityscapes has 19 classes, .* network has 21",
        ),
    ],
)
def test_file_that_is_no_fcn_is_refused(edited, change, options, message):
    path = edited(change)
    with pytest.raises(OnnxError, match=message) as refusal:
        imported(path, size=SIZE, **options)
    assert str(refusal.value).startswith(f"{path} ")
    assert "\n" not in str(refusal.value)


def test_file_that_fixes_a_size_inside_cannot_be_dynamic(edited):
    path = edited(fix_the_size_inside)
    assert imported(path, size=SIZE)[1].stride == 8
    with pytest.raises(OnnxError, match="edited cannot be dynamic, so export it at one shape: "):
        imported(path, size=SIZE, dynamic=SHAPES)


def test_image_that_the_layers_do_not_fit_is_refused(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, dilation=30), nn.Conv2d(4, 2, 1))
    path = tmp_path / "n.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(1, 3, 96, 96),), path, dynamo=False, output_names=["out"]
        )
    with pytest.raises(OnnxError, match=r"n\.onnx does not take an image of 40x96"):
        imported(path, size=(40, 96))
    with pytest.raises(OnnxError, match=r"logits of \(68, 36\) from an image of \(128, 96\)"):
        imported(path, size=(128, 96))


def test_damaged_and_missing_files_are_refused(zoo, tmp_path):
    data = zoo.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    for name in ("cut.onnx", "gone.onnx"):
        with pytest.raises(OnnxError, match=rf"{name} cannot be read"):
            imported(tmp_path / name, size=SIZE)


def test_unusual_stride_is_found(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 5, stride=3, padding=2), nn.Conv2d(4, 2, 1))
    path = export(module.eval(), tmp_path / "n.onnx", ["out"], opset=17)
    assert imported(path, size=SIZE)[1].stride == 3
