import logging
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from fcn_trt.errors import AmbiguousModelError, CheckpointError
from fcn_trt.files import sha256
from fcn_trt.input_format import InputFormat
from fcn_trt.labels import label_set
from fcn_trt.model.architecture import ARCHITECTURES, IMAGENET_MEAN, IMAGENET_STD, architecture
from fcn_trt.model.checkpoint import load_checkpoint, random_model
from fcn_trt.model.weights import PublishedWeights, RandomWeights, WeightsFile
from fcn_trt.network.to_onnx import model_spec

CONFIG = """
crop_size = (769, 769)
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    auxiliary_head=dict(align_corners=False, dilation=3, type='FCNHead'),
    backbone=dict(
        contract_dilation=True,
        depth=50,
        dilations=({dilations}),
        strides=[{strides}],
        norm_cfg=dict(type='SyncBN', eps=1e-5, momentum=-0.1),
        type='ResNetV1c'),
    decode_head={{'type': 'FCNHead', 'dilation': {dilation}, 'align_corners': {corners}}},
    type='EncoderDecoder')
"""


def config_of(arch):
    return CONFIG.format(
        dilations=str(arch.dilations)[1:-1],
        strides=str(arch.strides)[1:-1],
        dilation=arch.head.dilation,
        corners=arch.align_corners,
    )


def torchvision_keys(module):
    """The tensors of an `Fcn` under the names that torchvision gives them."""
    names = {
        "backbone.stem.0.": "backbone.conv1.",
        "backbone.stem.1.": "backbone.bn1.",
        "decode_head.convs.0.conv.": "classifier.0.",
        "decode_head.convs.0.bn.": "classifier.1.",
        "decode_head.conv_seg.": "classifier.4.",
        "auxiliary_head.convs.0.conv.": "aux_classifier.0.",
        "auxiliary_head.convs.0.bn.": "aux_classifier.1.",
        "auxiliary_head.conv_seg.": "aux_classifier.4.",
    }
    renamed = {}
    for name, tensor in module.state_dict().items():
        prefix = next((p for p in names if name.startswith(p)), "")
        renamed[names.get(prefix, "") + name.removeprefix(prefix)] = tensor
    return renamed


def same(loaded, module):
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        return torch.equal(loaded.module(image), module(image))


def takes_bgr(loaded, module):
    """Whether a loaded network computes of RGB what the module computes of BGR."""
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        expected = module(image)
        difference = (loaded.module(image.flip(1)) - expected).abs().max()
    return difference < 1e-4 * expected.abs().max()  # sums in another order


class TestIdentification:
    @pytest.mark.parametrize(
        "model", [a.name for a in ARCHITECTURES.values() if a.depth == 50 and a.stem == "3x3"]
    )
    @pytest.mark.parametrize("key", ["cfg", "config"])
    def test_config_in_the_checkpoint_names_the_model(self, model, key, tiny, saved):
        module = tiny(model, auxiliary=False)
        meta = {key: config_of(architecture(model))}
        loaded = load_checkpoint(saved({"meta": meta, "state_dict": module.state_dict()}))
        assert loaded.module.arch.name == model
        assert same(loaded, module)

    @pytest.mark.parametrize(
        "config",
        [
            "not python (",
            "_base_ = './fcn_r50-d8.py'\nmodel = dict(backbone=dict(), decode_head=dict())",
            "model = dict(pretrained=None)",
            "model = build()",
            "a.b = 1",
            torch.ones(2),
            "x = '\0'",
            7,
        ],
    )
    def test_config_that_is_not_whole_says_nothing(self, config, tiny, saved):
        file = saved({"meta": {"cfg": config}, "state_dict": tiny("fcn_r50-d8").state_dict()})
        with pytest.raises(
            AmbiguousModelError, match=r"fcn_r50-d8, fcn_d6_r50-d16, fcn_r50-d8_769"
        ):
            load_checkpoint(file)
        assert load_checkpoint(file, "fcn_r50-d8").module.arch.name == "fcn_r50-d8"

    @pytest.mark.parametrize(
        ("wrong", "right", "match"),
        [
            ("contract_dilation=True", "contract_dilation=False", "a model that is not known here"),
            ("1, 1, 2, 4", "1, 1, 1, 2", "a model that is not known here"),
            ("1, 2, 1, 1", "1, 2, 2, 2", "a model that is not known here"),
            ("'FCNHead', 'dilation'", "'PSPHead', 'dilation'", "decode_head.type = PSPHead"),
            ("depth=50", "depth=50, style='caffe'", "backbone.style = caffe"),
            ("depth=50", "depth=50, multi_grid=(1, 2, 4)", r"backbone.multi_grid = \[1, 2, 4\]"),
            ("decode_head={", "decode_head=[{}] and {", r"decode_head = \[\{\}\] and"),
        ],
    )
    def test_config_of_another_network_is_refused(self, wrong, right, match, tiny, saved):
        text = config_of(architecture("fcn_r50-d8"))
        assert wrong in text
        meta = {"cfg": text.replace(wrong, right)}
        file = saved({"meta": meta, "state_dict": tiny("fcn_r50-d8").state_dict()})
        with pytest.raises(CheckpointError, match=rf"says (it is )?{match}"):
            load_checkpoint(file)

    def test_config_is_read_and_never_run(self, tiny, saved, tmp_path):
        proof = tmp_path / "it-ran"
        text = f"import pathlib\npathlib.Path({str(proof)!r}).touch()\n"
        meta = {"cfg": text + config_of(architecture("fcn_r50-d8"))}
        file = saved({"meta": meta, "state_dict": tiny("fcn_r50-d8").state_dict()})
        assert load_checkpoint(file).module.arch.name == "fcn_r50-d8"
        assert not proof.exists()

    def test_name_in_the_meta_is_taken(self, tiny, saved):
        meta = {"model": "fcn_d6_r50-d16"}
        file = saved({"meta": meta, "state_dict": tiny("fcn_d6_r50-d16").state_dict()})
        assert load_checkpoint(file).module.arch.name == "fcn_d6_r50-d16"

    def test_name_in_the_meta_that_the_tensors_deny_is_refused(self, tiny, saved):
        file = saved({"meta": {"model": "fcn_r101-d8"}, "state_dict": tiny().state_dict()})
        with pytest.raises(CheckpointError, match=r"says it is fcn_r101-d8, but .* fcn_r18-d8"):
            load_checkpoint(file)

    def test_published_hash_names_the_model_and_its_labels(self, tiny, saved):
        file = saved(tiny("fcn_d6_r50-d16_769x769").state_dict())
        entry = PublishedWeights(
            name="fcn_d6_r50-d16_769x769_40k_cityscapes",
            model="fcn_d6_r50-d16_769x769",
            url="https://localhost/fcn.pth",
            sha256_prefix=file.sha256[:8],
            labels="cityscapes",
            crop="769x769",
            miou=70.0,
            miou_ms_flip=None,
            measured_on="Cityscapes val",
        )
        loaded = load_checkpoint(replace(file, published=entry))
        assert loaded.module.arch.name == entry.model
        assert (loaded.weights, loaded.labels.name) == (entry.name, "cityscapes")
        assert loaded.source_sha256 == file.sha256

    def test_mmsegmentation_without_any_config_is_ambiguous(self, tiny, saved):
        with pytest.raises(AmbiguousModelError, match="name the one it was trained as: fcn_r50-d8"):
            load_checkpoint(saved(tiny("fcn_r50-d8").state_dict()))

    def test_resnet101_without_auxiliary_head_is_ambiguous(self, tiny, saved):
        file = saved(torchvision_keys(tiny("fcn_resnet101")))
        with pytest.raises(AmbiguousModelError, match="fcn_resnet101, pad_fcn_resnet101"):
            load_checkpoint(file)
        for model in ("fcn_resnet101", "pad_fcn_resnet101"):
            assert load_checkpoint(file, model).module.arch.name == model

    @pytest.mark.parametrize("model", ["fcn_resnet50", "fcn_resnet101"])
    def test_torchvision_keys_with_auxiliary_head_are_torchvisions(self, model, tiny, saved):
        module = tiny(model, 21, auxiliary=True)
        loaded = load_checkpoint(saved(torchvision_keys(module)))
        assert loaded.module.arch.name == model
        module.auxiliary_head = None
        assert same(loaded, module)

    @pytest.mark.parametrize("auxiliary", [True, False])
    @pytest.mark.parametrize(
        ("extras", "family"),
        [({}, "pytorch-auto-drive"), ({"epoch": 9, "args": None}, "torchvision")],
    )
    def test_container_decides_only_where_the_tensors_do_not(
        self, auxiliary, extras, family, tiny, saved
    ):
        tensors = torchvision_keys(tiny("fcn_resnet101", auxiliary=auxiliary))
        file = saved({"model": tensors, "optimizer": {}, "lr_scheduler": {}, **extras})
        assert load_checkpoint(file).module.arch.family == ("torchvision" if auxiliary else family)
        assert load_checkpoint(file, "fcn_resnet101").module.arch.name == "fcn_resnet101"

    def test_wrong_model_is_refused_with_the_right_one(self, tiny, saved):
        file = saved({"meta": {"model": "fcn_r18-d8"}, "state_dict": tiny().state_dict()})
        with pytest.raises(CheckpointError, match="is not fcn_r50-d8; it is fcn_r18-d8"):
            load_checkpoint(file, "fcn_r50-d8")


class TestNormalisation:
    MEAN, STD = (1.0, 2.5, 255.0), (2.0, 1.0, 0.5)

    def load(self, tiny, saved, text, key="cfg", module=None, **options):
        meta = {key: config_of(architecture("fcn_r50-d8")) + text}
        content = {"meta": meta, "state_dict": (module or tiny("fcn_r50-d8")).state_dict()}
        return load_checkpoint(saved(content), **options)

    def test_imagenet_s_is_taken_where_the_checkpoint_says_nothing(self, tiny, saved):
        loaded = self.load(tiny, saved, "")
        assert (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)

    @pytest.mark.parametrize("inside", [True, False])
    def test_preprocessor_of_1x_is_taken(self, inside, tiny, saved):
        said = "data_preprocessor=dict(bgr_to_rgb=True, mean=[1, 2.5, 255], std=[2, 1, .5])"
        text = config_of(architecture("fcn_r50-d8"))
        text = text.replace("model = dict(", f"model = dict({said},") if inside else text + said
        file = saved({"meta": {"cfg": text}, "state_dict": tiny("fcn_r50-d8").state_dict()})
        loaded = load_checkpoint(file, "fcn_r50-d8")
        assert (loaded.mean, loaded.std) == (self.MEAN, self.STD)
        assert {type(value) for value in (*loaded.mean, *loaded.std)} == {float}

    @pytest.mark.parametrize(
        "text",
        [
            "img_norm_cfg = dict(mean=[1, 2.5, 255], std=[2, 1, 0.5], to_rgb=True)",
            "img_norm_cfg = dict(mean=[1, 2.5, 255], std=[2, 1, 0.5])",
            "train_pipeline = [dict(type='Load'), 7, "
            "dict(type='Normalize', mean=[1, 2.5, 255], std=[2, 1, 0.5], to_rgb=True)]",
            "img_norm_cfg = dict(mean=[9, 9, 9], std=[9, 9, 9], to_rgb=False)\n"
            "train_pipeline = ["
            "dict(type='Normalize', mean=[1, 2.5, 255], std=[2, 1, 0.5], to_rgb=True)]",
            "img_norm_cfg = dict(mean=[1, 2.5, 255], std=[2, 1, 0.5], to_rgb=True)\n"
            "train_pipeline = [dict(type='Normalize', **img_norm_cfg)]",
        ],
    )
    def test_step_of_0x_is_taken_before_its_variable(self, text, tiny, saved):
        loaded = self.load(tiny, saved, text, "config")
        assert (loaded.mean, loaded.std) == (self.MEAN, self.STD)

    @pytest.mark.parametrize(
        ("text", "mean", "std"),
        [
            ("data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6])", (3, 2, 1), (6, 5, 4)),
            (
                "data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=False)",
                (3, 2, 1),
                (6, 5, 4),
            ),
            (
                "img_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=False)",
                (3, 2, 1),
                (6, 5, 4),
            ),
            ("data_preprocessor = dict(type='SegDataPreProcessor')", (0, 0, 0), (1, 1, 1)),
        ],
    )
    def test_networks_that_take_bgr_get_their_channels_swapped(self, text, mean, std, tiny, saved):
        module = tiny("fcn_r50-d8")
        loaded = self.load(tiny, saved, text, module=module)
        assert (loaded.mean, loaded.std) == (mean, std)
        assert takes_bgr(loaded, module)

    def test_said_order_comes_before_the_config_s(self, tiny, saved):
        text = "img_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb={})"
        module = tiny("fcn_r50-d8")
        as_rgb, as_bgr = (
            self.load(tiny, saved, text.format(own), module=module, said=said)
            for own, said in ((False, InputFormat(colour="rgb")), (True, InputFormat(colour="bgr")))
        )
        assert (as_rgb.mean, as_rgb.std) == ((1, 2, 3), (4, 5, 6))
        assert same(as_rgb, module)
        assert (as_bgr.mean, as_bgr.std) == ((3, 2, 1), (6, 5, 4))
        assert takes_bgr(as_bgr, module)

    def test_said_numbers_come_before_the_config_s(self, tiny, saved):
        said = InputFormat(mean=(1, 2, 3), std=(4, 5, 6))
        for numbers in ("[9, 9, 9]", "[9]"):  # the second normalises nothing
            text = f"img_norm_cfg = dict(mean={numbers}, std=[9, 9, 9], to_rgb=False)"
            loaded = self.load(tiny, saved, text, said=said)
            assert (loaded.mean, loaded.std) == ((3, 2, 1), (6, 5, 4))  # in the config's order

    @pytest.mark.parametrize(
        "said",
        [
            InputFormat(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 1.0)),
            InputFormat(mean=(127.5, 63.75, 0.0), std=(127.5, 127.5, 255.0)),
        ],
    )
    def test_said_numbers_are_of_pixels_of_0_to_255(self, said, tiny, saved, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            loaded = load_checkpoint(saved(tiny().state_dict()), "fcn_r18-d8", said=said)
        assert (loaded.mean, loaded.std) == ((127.5, 63.75, 0), (127.5, 127.5, 255))
        assert "normalised" not in caplog.text

    @pytest.mark.parametrize("colour", ["rgb", "bgr"])
    def test_assumed_input_is_said(self, colour, tiny, saved, caplog):
        said = InputFormat(colour=None if colour == "rgb" else colour)
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            loaded = load_checkpoint(saved(tiny().state_dict()), "fcn_r18-d8", said=said)
        assert (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)
        (line,) = [m for m in caplog.messages if "normalised" in m]
        assert "last.pth does not say how its input was normalised" in line
        assert f"taking ImageNet's mean and std, {colour.upper()} (--mean, --std, --scale" in line

    def test_nothing_is_said_of_the_input_of_our_own_files(self, tiny, saved, caplog):
        meta = {"model": "fcn_r18-d8", "labels": "cityscapes"}
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            load_checkpoint(saved({"meta": meta, "state_dict": tiny().state_dict()}))
        assert caplog.text == ""

    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            ("[1, 2]", "[1, 1, 1]"),
            ("[1, 2, 3]", "[1, 0, 1]"),
            ("[1, 2, 3]", "[1, 1e-320, 1]"),
            ("[1, 2, 3]", "[1, 1, -1]"),
            ("[1, 2, 256]", "[1, 1, 1]"),
            (f"[1, 2, 1{400 * '0'}]", "[1, 1, 1]"),
            ("[1, 2, 3]", "[1, 1, 1e999]"),
            ("[1, 2, 'x']", "[1, 1, 1]"),
            ("None", "[1, 1, 1]"),
            ("mean", "[1, 1, 1]"),
            ("5", "[1, 1, 1]"),
        ],
    )
    def test_numbers_that_normalise_nothing_are_refused(self, mean, std, tiny, saved):
        with pytest.raises(CheckpointError, match=r"img_norm_cfg has mean .* each needs three num"):
            self.load(tiny, saved, f"img_norm_cfg = dict(mean={mean}, std={std}, to_rgb=True)")

    def test_it_reaches_the_spec(self, tiny, saved):
        text = "img_norm_cfg = dict(mean=[1, 2.5, 255], std=[2, 1, 0.5], to_rgb=True)"
        spec = model_spec(self.load(tiny, saved, text), size=(32, 64), batch=1)
        assert (spec.mean, spec.std) == (self.MEAN, self.STD)


class TestStrictness:
    @pytest.fixture
    def tensors(self, tiny):
        return tiny(auxiliary=True).state_dict()

    def refused(self, saved, tensors, match):
        with pytest.raises(CheckpointError, match=match) as caught:
            load_checkpoint(saved(tensors), "fcn_r18-d8")
        assert "\n" not in str(caught.value)

    def test_training_leftovers_are_ignored(self, tensors, saved):
        tensors["backbone.fc.weight"] = torch.ones(1)
        tensors["ema_backbone_conv1_weight"] = torch.ones(1)
        load_checkpoint(saved(tensors), "fcn_r18-d8")

    def test_batch_counters_may_be_missing(self, tensors, saved):
        kept = {n: t for n, t in tensors.items() if not n.endswith("num_batches_tracked")}
        load_checkpoint(saved(kept), "fcn_r18-d8")

    def test_missing_tensor_is_named(self, tensors, saved):
        del tensors["backbone.layer2.0.bn1.running_mean"]
        self.refused(
            saved, tensors, r"not fit fcn_r18-d8: backbone\.layer2\.0\.bn1\.running_mean is missing"
        )

    def test_left_over_tensor_is_named(self, tensors, saved):
        tensors["decode_head.convs.2.conv.weight"] = torch.ones(1)
        self.refused(saved, tensors, r"decode_head\.convs\.2\.conv\.weight is left over")

    def test_misshapen_tensor_is_named_with_both_shapes(self, tensors, saved):
        tensors["decode_head.conv_seg.bias"] = torch.ones(4)
        self.refused(saved, tensors, r"conv_seg\.bias is \(4,\) instead of \(19,\)")

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_refused(self, value, tensors, saved):
        tensors["decode_head.conv_seg.bias"][3] = value
        self.refused(saved, tensors, r"conv_seg\.bias holds values that are not finite")

    @pytest.mark.parametrize(
        ("convert", "kind"),
        [
            (lambda tensor: tensor.to(torch.int8), "int8"),
            (lambda tensor: tensor.to_sparse(), "sparse_coo"),
            (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "qint8"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*quantized tensor creation functions")
    def test_weights_that_are_no_plain_numbers_are_refused(self, convert, kind, tensors, saved):
        tensors["decode_head.conv_seg.bias"] = convert(tensors["decode_head.conv_seg.bias"])
        self.refused(
            saved, tensors, rf"conv_seg\.bias holds {kind} values instead of plain numbers"
        )

    @pytest.mark.parametrize("shape", [(1 << 40,), (3,), (1 << 31, 1 << 31), (19,)], ids=str)
    def test_numbers_that_the_file_does_not_store_are_refused(self, shape, tensors, saved):
        tensors["decode_head.conv_seg.bias"] = torch.ones(()).expand(shape)
        with pytest.raises(CheckpointError, match=r"conv_seg\.bias (is|claims)"):
            load_checkpoint(saved(tensors), "fcn_r18-d8")

    @pytest.mark.parametrize(
        ("name", "shape", "match"),
        [
            ("decode_head.conv_seg.weight", (20_000_000, 32, 1, 1), "has 20000000 classes; a"),
            ("decode_head.conv_seg.weight", (256, 32, 1, 1), "a label map holds 1 to 255"),
            ("decode_head.conv_seg.weight", (0, 32, 1, 1), "has 0 classes; a"),
            ("backbone.layer1.0.conv1.weight", (6000, 8, 3, 3), "6000 channels .* 2 to 1024"),
            ("backbone.layer1.0.conv1.weight", (1, 8, 3, 3), "has 1 channels in its first stage"),
            ("backbone.layer1.0.conv1.weight", (1000, 8, 3, 3), "is .* instead of"),
        ],
    )
    def test_widths_that_no_network_has_are_refused(self, name, shape, match, tensors, saved):
        tensors[name] = torch.ones(()).expand(shape)
        self.refused(saved, tensors, match)

    def test_tensors_in_each_other_s_place_are_refused(self, tensors, saved):
        largest = max(tensors.values(), key=torch.numel).flatten()
        shared = {n: largest[: t.numel()].view(t.shape) for n, t in tensors.items()}
        self.refused(saved, shared, "its tensors lie in each other's place")

    def test_file_that_has_changed_is_refused(self, tensors, saved):
        file = saved(tensors)
        saved(tensors | {"steps": torch.tensor(1)})
        with pytest.raises(CheckpointError, match="was changed while it was read"):
            load_checkpoint(file, "fcn_r18-d8")

    @pytest.mark.parametrize("name", ["criterion.weight", "decode_head.loss_decode.weight"])
    def test_losses_are_ignored(self, name, tensors, saved):
        tensors[name] = torch.ones(19)
        load_checkpoint(saved(tensors), "fcn_r18-d8")

    def test_many_problems_are_counted(self, tensors, saved):
        kept = {n: t for n, t in tensors.items() if "layer3" not in n}
        self.refused(saved, kept, r"is missing; .* is missing; .* is missing and \d+ more")

    @pytest.mark.parametrize(
        "name", ["decode_head.conv_seg.weight", "backbone.layer1.0.conv1.weight"]
    )
    @pytest.mark.parametrize("tensor", [None, torch.tensor(1.0)])
    def test_tensors_that_give_the_widths_must_be_there(self, name, tensor, tensors, saved):
        tensors.pop(name)
        if tensor is not None:
            tensors[name] = tensor
        self.refused(saved, tensors, "is no FCN of torchvision, mmsegmentation or")

    @pytest.mark.parametrize(
        ("build", "match"),
        [
            (models.resnet50, "is a ResNet without a head"),
            (models.segmentation.lraspp_mobilenet_v3_large, "is an LR-ASPP of torchvision"),
            (models.segmentation.deeplabv3_mobilenet_v3_large, "is a DeepLabV3 of torchvision"),
            (models.segmentation.deeplabv3_resnet50, "is a DeepLabV3 of torchvision"),
            (models.mobilenet_v3_large, "is an image classifier"),
        ],
    )
    def test_other_families_are_refused(self, build, match, saved):
        with torch.device("meta"):
            backbone = {} if build is models.resnet50 else {"weights_backbone": None}
            module = build(weights=None, **backbone)
        # One number stands for each tensor: only names and shapes matter here.
        tensors = {n: torch.zeros(()).expand(t.shape) for n, t in module.state_dict().items()}
        with pytest.raises(CheckpointError, match=match):
            load_checkpoint(saved(tensors))

    def test_unknown_mixture_of_stem_and_head_is_refused(self, tiny, saved):
        tensors = {
            name: tensor
            for name, tensor in tiny().state_dict().items()
            if not name.startswith("decode_head.conv_cat.")
        }
        with pytest.raises(CheckpointError, match="of no known depth and stem"):
            load_checkpoint(saved(tensors))

    def test_empty_file_of_tensors_is_refused(self, saved):
        with pytest.raises(CheckpointError, match="holds no tensors"):
            load_checkpoint(saved({}))


def test_safetensors_in_float16_carry_model_labels_and_licence(tmp_path, tiny):
    module = tiny(classes=11)
    path = tmp_path / "demo.safetensors"
    metadata = {"model": "fcn_r18-d8", "labels": "camvid", "licence": "Apache-2.0"}
    save_file({n: t.half() for n, t in module.state_dict().items()}, path, metadata=metadata)
    loaded = load_checkpoint(WeightsFile(path=path, sha256=sha256(path), published=None))
    assert loaded.module.arch.name == "fcn_r18-d8"
    assert (loaded.labels.name, loaded.licence, loaded.weights) == (
        "camvid",
        "Apache-2.0",
        "demo.safetensors",
    )
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}
    assert not loaded.module.training


def test_random_model_is_reproducible_and_leaves_the_generator_alone():
    arch, labels = architecture("fcn_r18b-d8"), label_set("camvid")
    before = torch.random.get_rng_state()
    models_ = [random_model(arch, RandomWeights(seed=seed), labels) for seed in (7, 7, 8)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, again, other = (m.module.state_dict() for m in models_)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.stem.0.weight"], other["backbone.stem.0.weight"])
    assert first["backbone.stem.1.running_mean"].abs().max() > 0
    assert (models_[0].weights, models_[0].source_sha256) == ("random (seed 7)", "")
