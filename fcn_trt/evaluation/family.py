"""The protocol by which each family reports its own accuracy.

family              data set              image                        logits, and where compared
torchvision         coco_voc, voc         short side 520, Pillow       to the input, and the truth
mmsegmentation      cityscapes            within 1024x2048             to the input, then the image
                    cityscapes, 769x769   within 1025x2049, windows    to windows, input, image
                    voc, ade20k           within 512x2048              to the input, then the image
                    pascal_context_*      within 520x520, windows      to windows, input, image
pytorch-auto-drive  cityscapes            512x1024                     to the input, and the truth
                    voc                   black up to 505x505          to the input, cut
any                 any other             the engine's input           to the image, as `run` does

MMSegmentation's test-time augmentation resizes the image as it is in the data set by each scale.
Mirroring alone, which it has no config for, leaves the size as it is without.
Its figures with scales and mirroring on VOC and ADE20K were published by its versions 0.x, which
scaled the box of 512x2048 instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

from fcn_trt.errors import FcnTrtError
from fcn_trt.evaluation.protocol import Protocol, Slide
from fcn_trt.spec import Size, Spec

__all__ = [
    "MMSEG_SCALES",
    "ProtocolName",
    "altered",
    "family_protocol",
    "protocol_for",
    "run_protocol",
]

ProtocolName: TypeAlias = Literal["family", "run"]

MMSEG_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Source: mmseg 1.2.2 configs/_base_/datasets/*.py, `img_ratios`."""

_MMSEG = "mmseg 1.2.2 configs/_base_/datasets/{}.py and configs/fcn"
_PAD = "pytorch-auto-drive configs/semantic_segmentation/common/datasets/{}.py and seg_tester.py"


def _mmseg(config: str, box: Size, slide: Slide | None = None) -> Protocol:
    """Make MMSegmentation's protocol on a data set: images within a box, and windows of them."""
    return Protocol(
        name="mmsegmentation", source=_MMSEG.format(config), resize="box", size=box, slide=slide
    )


_MMSEG_CITYSCAPES = _mmseg("cityscapes", (1024, 2048))
_MMSEG_CITYSCAPES_769 = _mmseg(
    "cityscapes_769x769", (1025, 2049), Slide(crop=(769, 769), stride=(513, 513))
)
_CONTEXT_WINDOWS = Slide(crop=(480, 480), stride=(320, 320))
_TORCHVISION = Protocol(
    name="torchvision",
    source="pytorch/vision references/segmentation/presets.py, train.py",
    resize="short side",
    size=(520, 520),
    kernel="pillow",
    truth="input",
    truth_kernel="centre",
)
_PUBLISHED = {
    ("torchvision", "coco_voc"): _TORCHVISION,
    ("torchvision", "voc"): _TORCHVISION,
    ("mmsegmentation", "cityscapes"): _MMSEG_CITYSCAPES,
    ("mmsegmentation", "voc"): _mmseg("pascal_voc12", (512, 2048)),
    ("mmsegmentation", "ade20k"): _mmseg("ade20k", (512, 2048)),
    ("mmsegmentation", "pascal_context_59"): _mmseg(
        "pascal_context_59", (520, 520), _CONTEXT_WINDOWS
    ),
    ("mmsegmentation", "pascal_context_60"): _mmseg("pascal_context", (520, 520), _CONTEXT_WINDOWS),
    ("pytorch-auto-drive", "cityscapes"): Protocol(
        name="pytorch-auto-drive",
        source=_PAD.format("city_test_half"),
        resize="size",
        size=(512, 1024),
        kernel="float",
        truth="input",
        truth_kernel="corner",
    ),
    ("pytorch-auto-drive", "voc"): Protocol(
        name="pytorch-auto-drive",
        source=_PAD.format("voc_test_505"),
        resize="none",
        pad=(505, 505),
    ),
}
"""Each family's own protocol on a data set, but for how its networks' logits are interpolated."""


def protocol_for(spec: Spec, dataset: str, *, wanted: ProtocolName | None = None) -> Protocol:
    """Choose the protocol in which a network's accuracy on a data set is reported.

    Args:
        dataset: Name of the data set.
        wanted: The family's own, or what `fcn-trt run` does; None takes the family's own where it
            has one.

    Raises:
        FcnTrtError: the family's own is wanted, and it has none.
    """
    found = None if wanted == "run" else family_protocol(spec, dataset)
    if found is None and wanted == "family":
        raise FcnTrtError(
            f"{spec.family} publishes no accuracy of {spec.model} on {dataset}, so that there is "
            "no protocol of its own; use --protocol run"
        )
    return found or run_protocol(spec)


def run_protocol(spec: Spec) -> Protocol:
    """Make the protocol of what `fcn-trt run` does with a frame."""
    return Protocol(
        name="run",
        source="as `fcn-trt run`",
        resize="engine",
        logits="direct",
        align_corners=spec.align_corners,
    )


def family_protocol(spec: Spec, dataset: str) -> Protocol | None:
    """Return a family's own protocol.

    Args:
        dataset: Name of the data set.

    Returns:
        The protocol, or None where the family publishes no figure on that data set.
    """
    found = _PUBLISHED.get((spec.family, dataset))
    if found is _MMSEG_CITYSCAPES and spec.model.endswith("769x769"):
        found = _MMSEG_CITYSCAPES_769
    return found and replace(found, align_corners=spec.align_corners)


def altered(
    protocol: Protocol,
    *,
    slide: Slide | None = None,
    scales: tuple[float, ...] | None = None,
    flip: bool = False,
) -> Protocol:
    """Change a protocol's windows, scales or mirroring.

    Args:
        protocol: What is changed. Where `run` would resize an image to the engine's input, windows
            are of the image at its own size.
        slide: Windows, or None to leave them as they are.
        scales: Factors, or None for one. Several, or one that is not 1, are of the image at its own
            size where the protocol fits it into a box.
        flip: Whether each is computed mirrored, too.
    """
    made = protocol
    if slide is not None:
        resize = "none" if made.resize == "engine" else made.resize
        made = replace(made, slide=slide, resize=resize, logits="input", name=f"{made.name}, slide")
    has_scales = scales is not None and scales != (1.0,)
    if not has_scales and not flip:
        return made
    if has_scales and made.resize == "box":
        made = replace(made, resize="none", size=None)  # as MMSegmentation's TestTimeAug does
    views = ("scales",) * has_scales + ("flip",) * flip
    name = f"{made.name}, {' and '.join(views)}"
    return replace(made, name=name, scales=scales or (1.0,), flip=flip)
