"""How well a bundle predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from fcn_trt import report
from fcn_trt.commands.common import (
    BundleArgument,
    JsonOption,
    RebuildOption,
    print_json,
    rebuild_here,
)
from fcn_trt.errors import FcnTrtError
from fcn_trt.files import require_folder_of
from fcn_trt.report.evaluation import figures_table
from fcn_trt.spec import Size, Spec, parse_size

if TYPE_CHECKING:
    from fcn_trt.evaluate.protocol import Protocol
    from fcn_trt.evaluate.record import Record
    from fcn_trt.evaluate.sample import IndexedImages

__all__ = ["evaluate"]

PROTOCOLS = ("family", "run")

MAX_SCALE = 8.0


def evaluate(
    bundle: BundleArgument,
    dataset: Annotated[
        str,
        typer.Option(
            help="coco_voc, voc, cityscapes, ade20k, pascal_context_59, pascal_context_60, camvid, "
            "generic, or scene (needs no --root)."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of it; by default the one that is published on.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="family or run; by default the family's own where it has one."),
    ] = None,
    slide: Annotated[
        str | None, typer.Option(help="Windows of so many pixels, such as 769 or 512x1024.")
    ] = None,
    slide_stride: Annotated[
        str | None, typer.Option(help="From one window to the next; by default two thirds of one.")
    ] = None,
    scales: Annotated[
        str | None, typer.Option(help="Mean over several sizes, such as 0.5,1,1.5.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean over the mirrored image, too.")
    ] = False,
    ms_flip: Annotated[
        bool, typer.Option("--ms-flip", help="MMSegmentation's six scales, and mirrored.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many images at most, spread evenly.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Result to write (.json); a later run goes on from it.")
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Picture to write (.png): which class is taken for which.")
    ] = None,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure IoU, accuracy and boundaries on labelled images, as the model's family does."""
    asked = _Asked(
        protocol=protocol,
        slide=_parse_slide(slide, slide_stride),
        scales=_parse_scales(scales, ms_flip=ms_flip, flip=flip),
        flip=flip or ms_flip,
    )
    _check_names(dataset, root, split, protocol)
    _check_outputs(out, confusion)
    if rebuild:
        rebuild_here(bundle)
    record = _measure(bundle, _Images(dataset, root, split, limit), asked, out)
    found = record.scores.evaluation()
    title = f"{bundle} on {found.images} images of {dataset}"
    if out is not None and not record.was_finished:
        report.written(out, "the result")
    if confusion is not None:
        from fcn_trt.evaluate.confusion_picture import write_confusion_picture

        write_confusion_picture(found, confusion, title=title)
        report.written(confusion, "the picture")
    if as_json:
        print_json({name: value for name, value in record.content().items() if name != "scores"})
    else:
        report.show(figures_table(title, found))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The protocol as it is asked for."""

    protocol: str | None
    slide: tuple[Size, Size] | None
    scales: tuple[float, ...] | None
    flip: bool

    def choose(self, spec: Spec, dataset: str) -> Protocol:
        """The protocol for a network on a data set."""
        from fcn_trt.evaluate.family import altered, family_protocol, run_protocol
        from fcn_trt.evaluate.protocol import Slide

        found = None if self.protocol == "run" else family_protocol(spec, dataset)
        if found is None and self.protocol == "family":
            raise FcnTrtError(
                f"{spec.family} publishes no accuracy of {spec.model} on {dataset}, so that there "
                "is no protocol of its own; use --protocol run"
            )
        windows = None if self.slide is None else Slide(crop=self.slide[0], stride=self.slide[1])
        return altered(
            found or run_protocol(spec), slide=windows, scales=self.scales, flip=self.flip
        )


@dataclass(frozen=True, slots=True)
class _Images:
    """The data set as it is asked for."""

    name: str
    root: Path | None
    split: str | None
    limit: int | None

    def open(self, size: Size) -> IndexedImages:
        """The images; streets are drawn at that size."""
        from fcn_trt.demo.held_out import HeldOutScenes
        from fcn_trt.evaluate.datasets import open_dataset

        if self.root is None:
            return HeldOutScenes(size=size)
        return open_dataset(self.name, self.root, split=self.split)


def _measure(bundle: Path, asked_images: _Images, asked: _Asked, out: Path | None) -> Record:
    """Measure what the record does not have yet."""
    from fcn_trt.evaluate.measure import measure, spread
    from fcn_trt.evaluate.protocol import check_classes
    from fcn_trt.evaluate.record import Record, about, key_of
    from fcn_trt.runtime.segmenter import Segmenter

    with Segmenter.load(bundle) as segmenter:
        spec = segmenter.spec
        images = asked_images.open(spec.input_size)
        check_classes(images, spec.classes)
        chosen = asked.choose(spec, images.name)
        report.step(segmenter.description)
        report.step(chosen.sentence())
        indices = spread(len(images), asked_images.limit)
        facts = about(
            segmenter.manifest, chosen, images, indices=indices, ran_on=segmenter.description
        )
        record = Record(key_of(facts, images.key_parts(), indices), facts, spec.classes, out)
        if record.resumed:
            report.step(f"{out} has {record.resumed} of {len(indices)} images already")
        elif record.replaces:
            report.step(f"{out} is of something else and will be replaced")
        with report.count_bar("evaluating", len(indices), done=record.resumed) as bar:
            measure(segmenter, images, chosen, record, indices=indices, on_image=bar)
    return record


def _parse_slide(crop: str | None, stride: str | None) -> tuple[Size, Size] | None:
    """Windows and their stride; a side alone is a square."""
    if crop is None:
        if stride is not None:
            raise typer.BadParameter("it needs --slide", param_hint="'--slide-stride'")
        return None
    window = _parse_square(crop, "--slide")
    if stride is None:  # 513 of 769, 320 of 480, as MMSegmentation's
        return window, (-(-2 * window[0] // 3), -(-2 * window[1] // 3))
    step = _parse_square(stride, "--slide-stride")
    if step[0] > window[0] or step[1] > window[1]:
        raise typer.BadParameter(
            f"{stride} leaves pixels out between windows of {crop}", param_hint="'--slide-stride'"
        )
    return window, step


def _parse_square(text: str, option: str) -> Size:
    try:
        return parse_size(f"{text}x{text}" if text.isdecimal() else text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from error


def _parse_scales(text: str | None, *, ms_flip: bool, flip: bool) -> tuple[float, ...] | None:
    """The factors that --scales or --ms-flip asks for."""
    if ms_flip:
        from fcn_trt.evaluate.family import MMSEG_SCALES

        if text is not None or flip:
            raise typer.BadParameter("it has its own --scales and --flip", param_hint="'--ms-flip'")
        return MMSEG_SCALES
    if text is None:
        return None
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
        raise typer.BadParameter(
            f"{text!r} is not a list such as 0.5,1,1.5, each at most {MAX_SCALE}",
            param_hint="'--scales'",
        )
    return scales


def _check_names(dataset: str, root: Path | None, split: str | None, protocol: str | None) -> None:
    from fcn_trt.evaluate.datasets import DatasetName

    known = (*get_args(DatasetName), "scene")
    if dataset not in known:
        raise typer.BadParameter(
            f"{dataset!r} is none of {', '.join(known)}", param_hint="'--dataset'"
        )
    if (dataset == "scene") != (root is None):
        needs = "takes none" if root else "needs the folder of the data set"
        raise typer.BadParameter(f"{dataset} {needs}", param_hint="'--root'")
    if dataset == "scene" and split is not None:
        raise typer.BadParameter("scene has no parts", param_hint="'--split'")
    if protocol not in (None, *PROTOCOLS):
        raise typer.BadParameter(
            f"{protocol!r} is neither {' nor '.join(PROTOCOLS)}", param_hint="'--protocol'"
        )


def _check_outputs(out: Path | None, confusion: Path | None) -> None:
    """Refuse before long work what could not be written after it."""
    if out is not None:
        from fcn_trt.evaluate.record import check_record

        check_record(out)
    if confusion is not None:
        from fcn_trt.evaluate.confusion_picture import require_matplotlib

        if confusion.suffix.lower() != ".png":
            raise typer.BadParameter(
                f"{confusion} does not end in .png", param_hint="'--confusion'"
            )
        require_folder_of(confusion)
        require_matplotlib()
