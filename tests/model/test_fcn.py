from dataclasses import replace

import pytest
import torch
from torchvision.models import segmentation

from fcn_trt.model.architecture import ARCHITECTURES, Head, architecture
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.fcn import Fcn


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def empty(arch, classes, *, auxiliary=False):
    with torch.device("meta"):
        return Fcn(arch, classes, auxiliary=auxiliary)


# Source: num_params in torchvision's documentation of FCN_ResNet50_Weights and _ResNet101_; the
# modules that MMSegmentation's configs/fcn and pytorch-auto-drive build, counted.
@pytest.mark.parametrize(
    ("model", "classes", "with_auxiliary", "without", "tensors"),
    [
        ("fcn_resnet50", 21, 35_322_218, 32_957_013, 326),
        ("fcn_resnet101", 21, 54_314_346, 51_949_141, 632),
        ("pad_fcn_resnet101", 19, None, 51_948_115, 632),
        ("fcn_r18-d8", 19, 12_822_342, 12_673_523, 152),
        ("fcn_r18b-d8", 19, 12_803_110, 12_654_291, 140),
        ("fcn_r50-d8", 19, 49_497_734, 47_133_043, 350),
        ("fcn_r50b-d8", 19, 49_478_502, 47_113_811, 338),
        ("fcn_r101-d8", 19, 68_489_862, 66_125_171, 656),
        ("fcn_r101b-d8", 19, 68_470_630, 66_105_939, 644),
        ("fcn_d6_r50-d16", 19, 49_497_734, 47_133_043, 350),
        ("fcn_d6_r50b-d16", 19, 49_478_502, 47_113_811, 338),
        ("fcn_d6_r101-d16", 19, 68_489_862, 66_125_171, 656),
        ("fcn_d6_r101b-d16", 19, 68_470_630, 66_105_939, 644),
    ],
)
def test_parameters_are_as_published(model, classes, with_auxiliary, without, tensors):
    arch = architecture(model)
    plain = empty(arch, classes)
    assert parameters(plain) == without
    assert len(plain.state_dict()) == tensors
    if with_auxiliary is not None:
        assert parameters(empty(arch, classes, auxiliary=True)) == with_auxiliary
        assert len(empty(arch, classes, auxiliary=True).state_dict()) == tensors + 8


def test_an_architecture_expresses_a_network_that_no_family_publishes():
    # dusty-nv's pytorch-segmentation: an undilated ResNet-18 with torchvision's head.
    arch = replace(
        architecture("fcn_resnet50"),
        depth=18,
        strides=(1, 2, 2, 2),
        dilations=(1, 1, 1, 1),
        head=Head(convs=1),
    )
    assert arch.stride == 32
    assert parameters(empty(arch, 21)) == 11_769_301


def test_769_variants_differ_only_in_align_corners():
    for name, arch in ARCHITECTURES.items():
        if name.endswith("_769x769"):
            plain = architecture(name.removesuffix("_769x769"))
            assert (arch.align_corners, plain.align_corners) == (True, False)
            assert replace(arch, name=plain.name, align_corners=False) == plain


@pytest.mark.parametrize("model", ["fcn_r18-d8", "fcn_r50b-d8", "fcn_d6_r50-d16", "fcn_resnet50"])
@pytest.mark.parametrize("size", [(64, 96), (65, 97), (71, 103), (8, 8)])
def test_logits_have_one_value_per_stride_of_pixels(model, size, tiny):
    module = tiny(model, 5)
    height, width = (-(-side // module.arch.stride) for side in size)
    with torch.no_grad():
        assert module(torch.zeros(2, 3, *size)).shape == (2, 5, height, width)
    assert module.arch.stride == (16 if model.endswith("d16") else 8)


def test_auxiliary_head_sees_the_third_stage(tiny):
    logits, auxiliary = tiny(classes=5, auxiliary=True)(torch.zeros(1, 3, 64, 64))
    assert logits.shape == auxiliary.shape == (1, 5, 8, 8)


@pytest.mark.parametrize(
    "build",
    [
        segmentation.fcn_resnet50,
        pytest.param(segmentation.fcn_resnet101, marks=pytest.mark.exhaustive),
    ],
)
def test_logits_equal_those_of_torchvision(build, saved, randomise):
    theirs = randomise(build(weights=None, weights_backbone=None, num_classes=21, aux_loss=True))
    file = saved(theirs.state_dict())
    ours = load_checkpoint(file)
    file.path.unlink()
    assert ours.module.arch.name == build.__name__
    for size in ((64, 96), (65, 97)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            expected = theirs.classifier(theirs.backbone(image)["out"])
            difference = (ours.module(image) - expected).abs().max() / expected.abs().max()
        assert difference < 1e-4


def dilations(module):
    return {
        name: layer.dilation[0]
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.dilation != (1, 1)
    }


def test_r18_dilates_only_the_first_convolution_of_a_block():
    assert dilations(empty(architecture("fcn_r18-d8"), 2)) == {
        "backbone.layer3.1.conv1": 2,
        "backbone.layer4.0.conv1": 2,
        "backbone.layer4.1.conv1": 4,
    }


def test_d6_dilates_its_two_convolutions_and_not_conv_cat():
    found = dilations(empty(architecture("fcn_d6_r50-d16"), 2))
    assert found == {
        "backbone.layer4.1.conv2": 2,
        "backbone.layer4.2.conv2": 2,
        "decode_head.convs.0.conv": 6,
        "decode_head.convs.1.conv": 6,
    }


def test_unknown_model_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown model 'fcn_r34-d8'.*fcn_resnet50.*fcn_r18-d8"):
        architecture("fcn_r34-d8")
