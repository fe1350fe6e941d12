"""A network is held against its source as it is exported and typed, before it gets its name."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fcn_trt.network.reference import (
    REFERENCE_FRAMES,
    Reference,
    read_reference,
    shrink_to_fit,
)
from fcn_trt.runtime.check import check
from fcn_trt.runtime.checked_network import CheckedNetwork, likeliest_difference
from fcn_trt.spec import Check, CheckedStep, Frame, LabelMap, Size, Spec
from fcn_trt.video.image_source import folder_images, read_image
from fcn_trt.video.source import open_source

if TYPE_CHECKING:
    import onnx

    from fcn_trt.pipeline.plan import Checking, ImagesBar

__all__ = ["Source", "check_export", "check_typed", "counted", "reference_frames", "unchecked"]

NOT_ASKED = "as --no-check asked"
DRAWN = "drawn streets and blurred noise, none of the user's"
_VIDEO_FRAMES = 300
"""Of a video, among which the frames are taken."""
_FIRST_STREET = 11_000


class Source:
    """What a network comes from, as far as it labels frames.

    Args:
        name: What computes, for people.
        label: The label map of a frame, by the source itself.
    """

    def __init__(self, name: str, label: Callable[[Frame], LabelMap]) -> None:
        self.name = name
        self.label = label


def check_export(
    model: onnx.ModelProto,
    spec: Spec,
    source: Source | str,
    *,
    name: str,
    images: str | None,
    checking: Checking,
    bar: ImagesBar,
) -> tuple[Reference | None, Check]:
    """Ask the source, and hold a new FP32 network against it.

    Args:
        source: What it comes from, or why that labels nothing that means anything.
        name: What to call the network in messages.
        images: As for `reference_frames`.

    Returns:
        What the network carries from now on, and what was found.

    Raises:
        SourceError: the images cannot be read.
        AgreementError: the network labels otherwise.
    """
    if not checking.is_on or isinstance(source, str):
        reason = NOT_ASKED if not checking.is_on else str(source)
        return None, Check(step="export", reason=reason)
    frames, kind = reference_frames(images, spec.input_size)
    with bar(f"checking against {source.name} on {kind}", 2 * len(frames)) as on_image:
        reference = Reference.of(
            counted(source.label, on_image),
            frames,
            source=source.name,
            kind=kind,
            is_drawn=images is None,
        )
        network = CheckedNetwork(model.SerializeToString(), spec)
        found = check(
            "export",
            reference,
            counted(network.label, on_image),
            name=name,
            precision="fp32",
            accept=checking.accept,
            reason=lambda share: likeliest_difference(network, reference, share),
        )
    return reference, found


def check_typed(
    model: onnx.ModelProto, spec: Spec, *, name: str, checking: Checking, bar: ImagesBar
) -> Check:
    """Hold a typed network against the reference that it carries.

    Raises:
        AgreementError: it labels otherwise.
    """
    data = model.SerializeToString()
    reference = read_reference(data, name) if checking.is_on else None
    if reference is None:
        return unchecked("type", spec, checking)
    with bar(f"checking {spec.precision} against {reference.source}", len(reference.frames)) as on:
        return check(
            "type",
            reference,
            counted(CheckedNetwork(data, spec).label, on),
            name=name,
            precision=spec.precision,
            accept=checking.accept,
        )


def reference_frames(images: str | None, size: Size) -> tuple[list[Frame], str]:
    """Some frames, of the network's size where they are small enough then, and what they are.

    Args:
        images: A folder, a picture, a video, or anything else that `open_source` opens; None draws
            streets and blurred noise.
        size: (height, width) of the network's input.

    Raises:
        SourceError: they cannot be read.
    """
    if images is None:
        from fcn_trt.scene.scene import SCENE_FRAMES, StreetScene

        seeds = range(_FIRST_STREET, _FIRST_STREET + REFERENCE_FRAMES - 1)
        drawn = [StreetScene(seed).render(seed * 37 % SCENE_FRAMES, size)[0] for seed in seeds]
        return shrink_to_fit([*drawn, _noise(size)], size), DRAWN
    path = Path(images)
    if path.is_dir():
        paths = folder_images(path)
        count = min(REFERENCE_FRAMES, len(paths))
        found = [read_image(paths[i * len(paths) // count]) for i in range(count)]
    else:
        with open_source(images) as opened:
            read = list(islice(opened, _VIDEO_FRAMES))
        count = min(REFERENCE_FRAMES, len(read))
        found = [read[i * len(read) // count] for i in range(count)]
    return shrink_to_fit(found, size), f"frames of {path.name}"


def _noise(size: Size) -> Frame:
    """Blurred noise: its neighbours differ little, as in a photograph, and it has every colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def unchecked(step: CheckedStep, spec: Spec, checking: Checking) -> Check:
    """Why a step was not checked: it was not asked to, or the step before it was not."""
    before = next((c.reason for c in reversed(spec.checks) if c.reason), "")
    missing = before or "its ONNX carries no reference"
    return Check(step=step, reason=missing if checking.is_on else NOT_ASKED)


def counted(
    label: Callable[[Frame], LabelMap], on_image: Callable[[], None]
) -> Callable[[Frame], LabelMap]:
    """The same, which tells a bar after each frame."""

    def count(frame: Frame) -> LabelMap:
        found = label(frame)
        on_image()
        return found

    return count
