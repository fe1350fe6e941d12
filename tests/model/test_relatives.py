import pytest
import torch
from torchvision import models

from fcn_trt.errors import CheckpointError
from fcn_trt.model.architecture import ARCHITECTURES, architecture
from fcn_trt.model.checkpoint import load_checkpoint
from fcn_trt.model.fcn import Fcn
from fcn_trt.model.relatives import relative

MMSEGMENTATION = {
    "psp_modules.0.1.conv.weight": "a PSPNet",
    "image_pool.1.conv.weight": "a DeepLabV3 of",
    "aspp_modules.0.conv.weight": "a DeepLabV3 of",
    "c1_bottleneck.conv.weight": "a DeepLabV3+",
    "fpn_convs.0.conv.weight": "a UPerNet",
    "1.object_context_block.bottleneck.conv.weight": "an OCRNet",
    "0.conv_seg.weight": "a cascade of heads",
    "fusion_conv.conv.weight": "a SegFormer",
    "nl_block.g.conv.weight": "an attention network",
    "ema_module.bases": "an attention network",
}
BACKBONES = {
    "stage2.0.branches.0.0.conv1.weight": "an HRNet",
    "patch_embed.projection.weight": "a vision transformer",
    "layer2.0.downsample.2.weight": "an FCN on ResNetV1d",
    "encoder.0.0.convs.0.conv.weight": "a U-Net of MMSegmentation",
}
OTHERS = {
    "inc.double_conv.0.weight": "a U-Net",
    "encoder1.0.weight": "a U-Net",
    "segmentation_head.0.weight": "a network of segmentation_models_pytorch",
    "segformer.encoder.patch_embeddings.0.proj.weight": "a vision transformer",
    "encoder.stages.0.0.convs.0.conv.weight": "an nnU-Net",
    "score_fr.weight": "an FCN on VGG16",
    "rpn.head.cls_logits.weight": "a detector of boxes",
    "bbox_head.fc_cls.weight": "a detector of boxes",
    "22.dfl.conv.weight": "a YOLO",
    "cls_token": "an image classifier",
}


def fcn_names(arch):
    with torch.device("meta"):
        return Fcn(arch, 2, base_width=8, auxiliary=True).state_dict()


@pytest.mark.parametrize(
    "arch", {(a.depth, a.stem, a.head.concat): a for a in ARCHITECTURES.values()}.values()
)
def test_own_architectures_are_no_relatives(arch):
    assert relative(fcn_names(arch)) is None


@pytest.mark.parametrize("name", MMSEGMENTATION)
def test_heads_of_mmsegmentation_are_told_by_their_layers(name):
    found = relative(
        {**fcn_names(architecture("fcn_r18-d8")), f"decode_head.{name}": torch.ones(1)}
    )
    assert str(found).startswith(MMSEGMENTATION[name])


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_told_by_their_layers(name):
    found = relative({**fcn_names(architecture("fcn_r18-d8")), f"backbone.{name}": torch.ones(1)})
    assert found == BACKBONES[name]


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_told_by_their_names(name):
    assert relative({name: torch.ones(1)}) == OTHERS[name]


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (models.resnet18, "an FCN-ResNet18 of jetson-inference, of stride 32"),
        (models.resnet34, "an FCN on ResNet34"),
        (models.resnet152, "an FCN on ResNet152"),
        (models.resnext50_32x4d, "an FCN on ResNeXt"),
        (models.wide_resnet50_2, "an FCN on Wide ResNet"),
        (models.resnet50, None),
    ],
)
def test_fcns_on_other_resnets_are_told_by_their_blocks(build, what):
    with torch.device("meta"):
        backbone = build(weights=None).state_dict()
    names = {f"backbone.{name}": tensor for name, tensor in backbone.items()}
    assert relative({**names, "classifier.4.weight": torch.ones(1)}) == what


def test_what_it_is_and_what_is_run_are_said_in_one_sentence(saved):
    with pytest.raises(CheckpointError, match="is a U-Net, and only FCNs on ResNet18, 50") as error:
        load_checkpoint(saved({"model": {"inc.double_conv.0.weight": torch.ones(1, 1, 3, 3)}}))
    assert "\n" not in str(error.value)
