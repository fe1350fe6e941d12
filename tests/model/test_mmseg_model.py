import logging
import math

import pytest
import torch

from fcn_trt.errors import CheckpointError
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.mmseg_config import config_variables
from fcn_trt.model.mmseg_model import config_threshold, is_slid, unsupported

CONFIG = """
data_preprocessor = dict(mean=[1, 2, 3], std=[1, 1, 1], bgr_to_rgb=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), norm_cfg=dict(type='SyncBN'{norm}),
        norm_eval=False, style='pytorch', contract_dilation=True{backbone}),
    decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=16, num_convs=2,
        concat_input=True, dropout_ratio=0.1, num_classes=3, norm_cfg=dict(type='SyncBN'{norm}),
        align_corners=False, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False){head}),
    train_cfg=dict(), test_cfg=dict(mode='whole'){model})
"""


def config(*, norm="", backbone="", head="", model=""):
    given = {"norm": norm, "backbone": backbone, "head": head, "model": model}
    return CONFIG.format(**{key: f", {value}" if value else "" for key, value in given.items()})


def load(saved, module, text, **options):
    file = saved({"meta": {"cfg": text, "CLASSES": "abc"}, "state_dict": module.state_dict()})
    return load_checkpoint(file, **options)


def refusal(**changed):
    return unsupported(config_variables(config(**changed)))


def test_plain_config_is_what_is_run(tiny, saved, caplog):
    assert refusal() is None
    with caplog.at_level(logging.INFO, logger="fcn_trt"):
        load(saved, tiny(classes=3), config())
    assert caplog.text == ""


@pytest.mark.parametrize(
    "changed",
    [
        {"backbone": "with_cp=True, zero_init_residual=False, frozen_stages=1"},
        {"backbone": "init_cfg=build(), pretrained='open-mmlab://resnet18_v1c'"},
        {"backbone": "dcn=None, plugins=None, conv_cfg=None, multi_grid=None, avg_down=False"},
        {"head": "act_cfg=dict(type='torch.nn.ReLU', inplace=True), conv_cfg=dict(type='Conv2d')"},
        {"head": "ignore_index=0, sampler=dict(type='OHEMPixelSampler'), input_transform=None"},
        {"model": "auxiliary_head=[dict(type='PSPHead')], pretrained=None, init_cfg=None"},
        {"model": "data_preprocessor=dict(size=(1, 2)), neck=None, _scope_='mmseg'"},
        {"norm": "requires_grad=True, momentum=0.01, eps=1e-5"},
    ],
)
def test_what_says_nothing_of_inference_is_let_be(changed):
    assert refusal(**changed) is None


@pytest.mark.parametrize("kind", ["BN", "mmseg.SyncBN", "torch.nn.BatchNorm2d", "NaiveSyncBN"])
def test_batch_norms_over_devices_are_the_same(kind):
    assert unsupported(config_variables(config().replace("SyncBN", kind))) is None


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"head": "act_cfg=dict(type='LeakyReLU', negative_slope=0.1)"}, "head.act_cfg = LeakyReL"),
        ({"head": "act_cfg=None"}, "decode_head.act_cfg = None"),
        ({"head": "conv_cfg=dict(type='DCNv2')"}, "decode_head.conv_cfg = DCNv2"),
        ({"head": "input_transform='resize_concat'"}, "decode_head.input_transform = resize_conc"),
        ({"head": "in_index=-2"}, "decode_head.in_index = -2"),
        ({"head": "in_index=[2, 3]"}, r"decode_head.in_index = [2, 3]"),
        ({"head": "kernel_size=1"}, "decode_head.kernel_size = 1"),
        ({"head": "resize_mode='nearest'"}, "decode_head.resize_mode = nearest"),
        ({"head": "threshold=2"}, "decode_head.threshold = 2"),
        ({"head": "upsample=True"}, "decode_head.upsample = True, a key that is not known"),
        ({"head": "**base"}, "decode_head.** = base"),
        ({"backbone": "act_cfg=dict(type='GELU')"}, "backbone.act_cfg = GELU"),
        ({"backbone": "conv_cfg=dict(type='ConvWS')"}, "backbone.conv_cfg = ConvWS"),
        ({"backbone": "dcn=dict(type='DCN')"}, "backbone.dcn = DCN"),
        (
            {"backbone": "plugins=[dict(cfg=dict(type='ContextBlock'))]"},
            "backbone.plugins = a list",
        ),
        ({"backbone": "avg_down=True"}, "backbone.avg_down = True"),
        ({"backbone": "in_channels=4"}, "backbone.in_channels = 4"),
        ({"backbone": "groups=32"}, "backbone.groups = 32, a key that is not known"),
        ({"backbone": "out_indices=(2,)"}, "decode_head.in_index = 3"),
        ({"norm": "eps='small'"}, "backbone.norm_cfg.eps = small"),
        ({"norm": "eps=-1e-5"}, "backbone.norm_cfg.eps = -1e-05"),
        ({"norm": "eps=1e-3"}, "backbone.norm_cfg.eps = 0.001, but only 1e-05 is run here (each "),
        ({"norm": "num_groups=32"}, "backbone.norm_cfg.num_groups = 32, a key"),
        ({"model": "neck=dict(type='FPN')"}, "model.neck = FPN"),
        ({"model": "num_stages=2"}, "model.num_stages = 2, a key that is not known"),
    ],
)
def test_what_is_not_run_is_refused_by_its_name(changed, name):
    assert name in refusal(**changed)


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("'EncoderDecoder'", "'CascadeEncoderDecoder'", "model.type = CascadeEncoderDecoder"),
        ("'ResNetV1c'", "'ResNetV1d'", "backbone.type = ResNetV1d"),
        ("'ResNetV1c'", "'mmpretrain.ResNeXt'", "backbone.type = mmpretrain.ResNeXt"),
        ("'FCNHead'", "'NLHead'", "decode_head.type = NLHead"),
        ("'SyncBN'", "'GN'", "backbone.norm_cfg = GN"),
    ],
)
def test_other_types_are_refused_in_one_sentence(old, new, name, tiny, saved):
    with pytest.raises(CheckpointError, match=rf"last\.pth cannot be exported: .*{name}, but only"):
        load(saved, tiny(classes=3), config().replace(old, new))


@pytest.mark.parametrize(
    ("said", "name"),
    [("act_cfg=dict(type='GELU')", "act_cfg = GELU"), ("norm_cfg=dict(eps=1e-3)", "eps = 0.001")],
)
def test_partial_config_is_held_to_what_it_says(tiny, saved, said, name):
    text = f"_base_ = './fcn.py'\nmodel = dict(decode_head=dict({said}))"
    with pytest.raises(CheckpointError, match=name):
        load(saved, tiny(classes=3), text, model="fcn_r18-d8")


def test_variance_that_has_the_other_eps_in_it_is_the_same(tiny, saved):
    module, other = tiny(classes=3), tiny(classes=3)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 0.01
    for layer in other.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var += 0.00999
    image = torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(load(saved, other, config()).module(image), module(image))


def test_variables_stand_for_their_values():
    text = "norm_cfg = dict(type='BN', eps=1e-3)\n" + config().replace(
        "norm_cfg=dict(type='SyncBN')", "norm_cfg=norm_cfg"
    )
    assert str(unsupported(config_variables(text))).startswith("backbone.norm_cfg.eps = 0.001")


def test_value_that_grows_is_not_written_out():
    text = "a = ['x', 'x', 'x', 'x']\n" + "".join("a = [a, a, a, a]\n" for _ in range(60))
    found = unsupported(config_variables(text + config(head="conv_cfg=a, dilation=a")))
    assert str(found).startswith("decode_head.conv_cfg = a list")


@pytest.mark.parametrize("inside", [True, False])
def test_windows_of_a_test_are_said_and_let_be(inside, tiny, saved, caplog):
    slide = "dict(mode='slide', crop_size=(512, 512), stride=(341, 341))"
    text = config().replace("test_cfg=dict(mode='whole')", f"test_cfg={slide}")
    if not inside:
        text = config().replace(", test_cfg=dict(mode='whole')", "") + f"test_cfg = {slide}"
    assert is_slid(config_variables(text))
    with caplog.at_level(logging.INFO, logger="fcn_trt"):
        load(saved, tiny(classes=3), text)
    assert "last.pth was tested in windows; here it takes whole images" in caplog.text


class TestOneLogit:
    def shares(self, loaded, module, threshold):
        """Share of pixels that are labelled as by the logit and the threshold, which both occur."""
        noise = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(1))
        image = torch.nn.functional.interpolate(noise, scale_factor=8)
        with torch.no_grad():
            logit, two = module(image)[:, 0], loaded.module(image)
        expected = torch.sigmoid(logit) > threshold
        assert expected.any()
        assert not expected.all()
        assert torch.allclose(two[:, 0], logit, atol=1e-5)
        return (two.argmax(1).bool() == expected).float().mean()

    @pytest.fixture
    def module(self, make_model):
        return make_model(classes=1).module

    @pytest.mark.parametrize(
        ("head", "asked", "threshold", "said"),
        [
            ("out_channels=1", None, 0.3, "above probability 0.3, as by its config"),
            ("out_channels=1, threshold=0.6", None, 0.6, "probability 0.6, as by its config"),
            ("loss_decode=dict(use_sigmoid=True)", None, 0.3, "above probability 0.3"),
            ("out_channels=1, threshold=0.6", 0.4, 0.4, ""),
        ],
    )
    def test_threshold_is_the_one_asked_for_or_the_config_s(
        self, head, asked, threshold, said, module, saved, caplog
    ):
        text = config(head=head).replace("num_classes=3", "num_classes=2")
        file = saved({"meta": {"cfg": text}, "state_dict": module.state_dict()})
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            loaded = load_checkpoint(file, threshold=asked)
        assert self.shares(loaded, module, threshold) > 0.999
        assert (said in caplog.text) if said else ("--threshold" not in caplog.text)

    def test_it_is_a_half_where_nothing_says_it(self, module, saved, caplog):
        with caplog.at_level(logging.INFO, logger="fcn_trt"):
            loaded = load_checkpoint(saved(module.state_dict()), "fcn_r18-d8")
        assert self.shares(loaded, module, 0.5) > 0.999
        assert "above probability 0.5, as nothing says another (--threshold" in caplog.text
        assert loaded.labels.classes == ("background", "foreground")

    def test_torchvision_s_head_of_one_class_is_binary(self, make_model, saved):
        module = make_model("fcn_resnet50", classes=1).module
        loaded = load_checkpoint(saved(module.state_dict()), "fcn_resnet50", threshold=0.25)
        bias = loaded.module.decode_head.conv_seg.bias
        assert bias[1].item() == pytest.approx(2 * bias[0].item() - math.log(1 / 3), rel=1e-5)
        assert torch.equal(
            loaded.module.decode_head.conv_seg.weight[0], module.decode_head.conv_seg.weight[0]
        )

    def test_threshold_of_several_classes_is_refused(self, tiny, saved):
        with pytest.raises(CheckpointError, match=r"has 3 classes, .* leave --threshold out"):
            load_checkpoint(saved(tiny(classes=3).state_dict()), "fcn_r18-d8", threshold=0.5)

    def test_config_without_a_head_has_no_threshold(self):
        assert config_threshold(config_variables("model = dict(pretrained=None)")) is None
