"""Near relatives of these FCNs, which are called what they are and not by what they lack."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fcn_trt.model.stored_tensor import StoredTensor

__all__ = ["relative"]

_RELATIVES: tuple[tuple[str, str], ...] = (
    # torchvision
    (r"classifier\.0\.convs\.", "a DeepLabV3 of torchvision"),
    (r"classifier\.(cbr|low_classifier)\.", "an LR-ASPP of torchvision"),
    (r"(roi_heads|rpn|roi_head|rpn_head|bbox_head|mask_head)\.", "a detector of boxes"),
    (r"(\d+|model\.\d+)\.dfl\.", "a YOLO"),
    # MMSegmentation: a head's own layers, the surer ones first
    (r"decode_head\.(lateral_convs|fpn_convs)\.", "a UPerNet of MMSegmentation"),
    (r"decode_head\.(\d+\.)?(object_context_block|spatial_gather)", "an OCRNet of MMSegmentation"),
    (r"decode_head\.\d+\.", "a cascade of heads of MMSegmentation"),
    (r"decode_head\.psp_modules\.", "a PSPNet of MMSegmentation"),
    (r"decode_head\.(c1_bottleneck|sep_bottleneck)\.", "a DeepLabV3+ of MMSegmentation"),
    (r"decode_head\.(image_pool|aspp_modules)\.", "a DeepLabV3 of MMSegmentation"),
    (r"decode_head\.(fusion_conv|linear_fuse|linear_c\d?)\.", "a SegFormer"),
    (r"decode_head\.(pixel_decoder|query_embed|transformer_decoder)", "a MaskFormer"),
    (r"decode_head\.(nl_block|gc_block|cca|dnl_block)\.", "an attention network of MMSegmentation"),
    (
        r"decode_head\.(pam|cam|ema_mid_conv|ema_module|enc_module)\w*\.",
        "an attention network of MMSegmentation",
    ),
    # backbones
    (r"backbone\.layer\d\.0\.downsample\.2\.", "an FCN on ResNetV1d"),
    (r"backbone\.(stage2|transition1)\.", "an HRNet"),
    (r"(backbone|encoder|segformer)\.(\w+\.)?patch_embed", "a vision transformer"),
    (r"backbone\.(context_path|spatial_path|global_feature_extractor)\.", "a BiSeNet or Fast-SCNN"),
    (r"backbone\.(encoder|decoder)\.\d+\.", "a U-Net of MMSegmentation"),
    (r"backbone\.features\.|backbone\.\d+\.", "a network on another backbone than a ResNet"),
    # others
    (r"segmentation_head\.", "a network of segmentation_models_pytorch"),
    (r"(inc|down\d|up\d|outc)\.|(encoder|up_?conv|downs|ups)\d?\.\d", "a U-Net"),
    (r"(encoder|decoder)\.stages\.\d+\.", "an nnU-Net"),
    (r"(score_fr|upscore\w*|score_pool\d)\.", "an FCN on VGG16"),
    (r"conv1\.weight|layer1\.0\.conv1\.weight", "a ResNet without a head for segmentation"),
    (
        r"(features\.\d|blocks\.\d|stages\.\d|conv_stem|fc\.|head\.|cls_token)",
        "an image classifier",
    ),
)
"""How a name begins that only such a network has, and what that is."""
_BASIC_BLOCKS: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "ResNet18", (3, 4, 6, 3): "ResNet34"}
_BOTTLENECKS: dict[tuple[int, ...], str] = {(3, 8, 36, 3): "ResNet152"}
"""ResNets of which no FCN is run here, by the blocks of their stages; ResNet18 with other heads."""


def relative(tensors: Mapping[str, StoredTensor]) -> str | None:
    """What a network is that is near to those in `ARCHITECTURES`; None if it may be one of them.

    Args:
        tensors: Of the network, without the prefixes of wrappers.
    """
    for pattern, what in _RELATIVES:
        if any(re.match(pattern, name) for name in tensors):
            return what
    blocks = tuple(
        len({name.split(".")[2] for name in tensors if name.startswith(f"backbone.layer{n}.")})
        for n in range(1, 5)
    )
    middle, last = (tensors.get(f"backbone.layer1.0.conv{n}.weight") for n in (2, 3))
    if middle is None or last is None:
        if blocks == (2, 2, 2, 2) and "classifier.4.weight" in tensors:
            return "an FCN-ResNet18 of jetson-inference, of stride 32"
        return _on(_BASIC_BLOCKS.get(blocks)) if blocks != (2, 2, 2, 2) else None
    if len(middle.shape) == 4 and middle.shape[0] != middle.shape[1]:
        return _on("ResNeXt")
    if len(middle.shape) == len(last.shape) == 4 and last.shape[0] != 4 * middle.shape[0]:
        return _on("Wide ResNet")
    return _on(_BOTTLENECKS.get(blocks))


def _on(backbone: str | None) -> str | None:
    return backbone and f"an FCN on {backbone}"
