"""Each step's result is held against the network's source, before it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fcn_trt.errors import NotRunnableError
from fcn_trt.images import read_image
from fcn_trt.network.reference import (
    REFERENCE_FRAMES,
    Reference,
    read_reference,
    shrink_to_fit,
)
from fcn_trt.runtime.check import Labeller, check, floor_of
from fcn_trt.runtime.checked_network import CheckedNetwork, likeliest_difference
from fcn_trt.spec import Check, CheckedStep, Frame, LabelMap, Precision, Size, Spec, format_size
from fcn_trt.video.image_files import folder_images
from fcn_trt.video.source import open_source

if TYPE_CHECKING:
    import onnx

    from fcn_trt.engine.bundle import Bundle
    from fcn_trt.pipeline.plan import Checking, ImagesBar

__all__ = [
    "Source",
    "check_engine",
    "check_export",
    "check_typed",
    "reference_frames",
    "reference_images",
]

DRAWN = "drawn streets and blurred noise, none of the user's"
_VIDEO_FRAMES = 300
"""Of a video, among which the frames are taken."""
_FIRST_STREET = 11_000


@dataclass(frozen=True, slots=True)
class Source:
    """What a network comes from, as far as it labels frames.

    Attributes:
        name: What computes, for people.
        label: The label map of a frame of that size, or else the network's, by the source itself.
        size: (height, width) of its input where it takes one only; there the two are compared.
        precision: What it computes in itself.
    """

    name: str
    label: Labeller
    size: Size | None = None
    precision: Precision = "fp32"


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
        What the network carries from now on, and what was found. Where the source does not take or
        give the network's size, that is what the network itself labels at it, which is proven to
        do what the source does. Where ONNX Runtime does not run the source, it says so.

    Raises:
        SourceError: the images cannot be read.
        AgreementError: the network labels otherwise.
    """
    if not checking.is_on:
        return None, Check(step="export", state="off")
    if isinstance(source, str):
        return None, Check(step="export", state="impossible", reason=source)
    at = spec if source.size is None else replace(spec, input_size=source.size, dynamic=None)
    frames, kind = reference_frames(images, at.input_size)
    with bar(f"checking against {source.name} on {kind}", 2 * len(frames)) as on_image:
        try:
            reference = Reference.of(
                _counted(source.label, on_image),
                frames,
                at.input_size,
                source=source.name,
                kind=kind,
                is_drawn=images is None,
            )
        except NotRunnableError as error:
            return None, Check(step="export", state="impossible", reason=f"since {error}")
        height, width = reference.label_maps[0].shape
        network = CheckedNetwork(model.SerializeToString(), at, label_size=(height, width))
        found = check(
            "export",
            reference,
            _counted(network.label, on_image),
            name=name,
            precision=source.precision,
            accept=checking.accept,
            reason=lambda share: likeliest_difference(network, reference, share),
        )
    if at.input_size == (height, width) == spec.input_size:
        return reference, found
    found = replace(found, kind=f"{found.kind} at {format_size((height, width))}")
    itself = CheckedNetwork(model.SerializeToString(), spec)
    return Reference.of(
        itself.label,
        reference_frames(images, spec.input_size)[0],
        spec.input_size,
        source=f"the FP32 ONNX (proven at {format_size((height, width))} by {source.name})",
        kind=kind,
        is_drawn=images is None,
    ), found


def check_typed(
    model: onnx.ModelProto, spec: Spec, *, name: str, checking: Checking, bar: ImagesBar
) -> Check:
    """Hold a typed network against the reference that it carries.

    Raises:
        AgreementError: it labels otherwise.
    """
    if not checking.is_on:
        return Check(step="type", state="off")
    data = model.SerializeToString()
    reference = read_reference(data, name)
    if reference is None:
        return _unchecked("type", spec)
    with bar(f"checking {spec.precision} against {reference.source}", len(reference.frames)) as on:
        return check(
            "type",
            reference,
            _counted(CheckedNetwork(data, spec).label, on),
            name=name,
            precision=spec.precision,
            accept=checking.accept,
        )


def check_engine(
    bundle: Bundle,
    opened: AbstractContextManager[Labeller] | None,
    *,
    name: str,
    checking: Checking,
    bar: ImagesBar,
) -> Check:
    """Hold an engine against the reference in its own ONNX.

    Args:
        opened: The engine, loaded when it is entered; None where this machine cannot run it.

    Raises:
        AgreementError: it labels otherwise.
        EngineError: it cannot be loaded.
    """
    if not checking.is_on:
        return Check(step="build", state="off")
    reference, spec = bundle.network.reference(), bundle.manifest.spec
    if reference is None:
        return _unchecked("build", spec)
    if opened is None:
        floor = floor_of(reference, spec.precision) if checking.accept is None else checking.accept
        return Check(step="build", state="pending", floor=floor)
    title = f"checking the engine against {reference.source}"
    with bar(title, len(reference.frames)) as on_image, opened as label:
        return check(
            "build",
            reference,
            _counted(label, on_image),
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
        found = [read_image(image) for image in reference_images(path)]
        return shrink_to_fit(found, size), f"frames of {path.resolve().name}"
    with open_source(images) as opened:
        found = _spread(opened)
    # An address may hold a password, and what is written here travels.
    return shrink_to_fit(found, size), f"frames of {path.name if path.is_file() else 'a stream'}"


def reference_images(folder: Path) -> list[Path]:
    """The images of a folder that are taken, spread evenly.

    Raises:
        SourceError: the folder cannot be read or holds no image.
    """
    paths = folder_images(folder)
    count = min(REFERENCE_FRAMES, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def _spread(frames: Iterable[Frame]) -> list[Frame]:
    """Some of the first frames of a video: every second one, every fourth, ... as it goes on."""
    kept: list[Frame] = []
    step = 1
    for index, frame in enumerate(islice(frames, _VIDEO_FRAMES)):
        if index % step == 0:
            kept.append(frame)
        if len(kept) > 2 * REFERENCE_FRAMES:
            kept, step = kept[::2], 2 * step
    count = min(REFERENCE_FRAMES, len(kept))
    return [kept[i * len(kept) // count] for i in range(count)]


def _noise(size: Size) -> Frame:
    """Blurred noise: its neighbours differ little, as in a photograph, and it has every colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def _unchecked(step: CheckedStep, spec: Spec) -> Check:
    """Why a step has nothing to be held against."""
    for before in reversed(spec.checks):
        if before.agreement is None:
            return replace(before, step=step)
    return Check(step=step, state="impossible", reason="its ONNX carries no reference")


def _counted(label: Labeller, on_image: Callable[[], None]) -> Callable[[Frame], LabelMap]:
    def count(frame: Frame) -> LabelMap:
        found = label(frame)
        on_image()
        return found

    return count
