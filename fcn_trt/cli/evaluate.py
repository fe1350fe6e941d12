"""How well a bundle predicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    BundleArgument,
    JsonOption,
    LabelMapOption,
    RebuildOption,
    bad_option,
    parse_label_map,
    parse_size_of,
    parse_word,
    print_json,
    rebuild_here,
    refuse,
)
from fcn_trt.spec import Size

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.evaluation.protocol import Slide
    from fcn_trt.evaluation.record import Record
    from fcn_trt.evaluation.request import EvaluationOptions
    from fcn_trt.evaluation.scores import Evaluation

__all__ = ["evaluate"]

MIN_SCALE = 0.1
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
    label_map: LabelMapOption = None,
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
    from fcn_trt.evaluation.family import ProtocolName
    from fcn_trt.evaluation.request import EvaluationOptions

    options = EvaluationOptions(
        protocol=cast(Any, parse_word(protocol, get_args(ProtocolName), "--protocol")),
        slide=_parse_slide(slide, slide_stride),
        scales=_parse_scales(scales, ms_flip=ms_flip, flip=flip),
        flip=flip or ms_flip,
        limit=limit,
    )
    said = parse_label_map(label_map)
    _check_names(dataset, root, split)
    if dataset != "generic":
        refuse(f"the numbers of {dataset} are known", label_map=label_map)
    _check_outputs(out, confusion)
    if rebuild:
        rebuild_here(bundle)
    record = _measure(bundle, dataset, root, split, said, options, out)
    content, found = record.content(), record.scores.evaluation()
    part = " ".join(filter(None, (dataset, content["dataset"]["split"])))
    title = f"{bundle} on {found.images} images of {part}"
    if out is not None and not record.was_finished:
        terminal.written(out, "the result")
    if as_json:
        print_json({name: value for name, value in content.items() if name != "scores"})
    else:
        terminal.show(figures_table(title, found))
    if confusion is not None:
        from fcn_trt.evaluation.confusion_picture import write_confusion_picture

        write_confusion_picture(found, confusion, title=title)
        terminal.written(confusion, "the picture")


def _measure(
    bundle: Path,
    dataset: str,
    root: Path | None,
    split: str | None,
    said: dict[int, int] | None,
    options: EvaluationOptions,
    out: Path | None,
) -> Record:
    """Measure what the record does not have yet."""
    from fcn_trt.evaluation.measure import measure
    from fcn_trt.evaluation.request import open_images, prepare_evaluation
    from fcn_trt.runtime.segmenter import Segmenter

    with Segmenter.load(bundle) as segmenter:
        images = open_images(dataset, root, split=split, spec=segmenter.spec, said=said)
        plan = prepare_evaluation(segmenter, images, options=options, out=out)
        terminal.step(segmenter.description)
        terminal.step(plan.protocol.sentence())
        count, record = len(plan.indices), plan.record
        if record.resumed:
            terminal.step(f"{out} has {record.resumed} of {count} images already")
        with terminal.count_bar("evaluating", count, done=record.resumed) as bar:
            measure(segmenter, images, plan.protocol, record, indices=plan.indices, on_image=bar)
    return record


def _parse_slide(crop: str | None, stride: str | None) -> Slide | None:
    """Windows and their stride; a side alone is a square."""
    from fcn_trt.evaluation.protocol import Slide

    if crop is None:
        refuse("it needs --slide", slide_stride=stride)
        return None
    window = _parse_square(crop, "--slide")
    if stride is None:  # 513 of 769, 320 of 480, as MMSegmentation's
        return Slide(crop=window, stride=(-(-2 * window[0] // 3), -(-2 * window[1] // 3)))
    step = _parse_square(stride, "--slide-stride")
    if step[0] > window[0] or step[1] > window[1]:
        raise bad_option("--slide-stride", f"{stride} leaves pixels out between windows of {crop}")
    return Slide(crop=window, stride=step)


def _parse_square(text: str, option: str) -> Size:
    return parse_size_of(f"{text}x{text}" if text.isdecimal() else text, option)


def _parse_scales(text: str | None, *, ms_flip: bool, flip: bool) -> tuple[float, ...] | None:
    """The factors that --scales or --ms-flip asks for."""
    if ms_flip:
        from fcn_trt.evaluation.family import MMSEG_SCALES

        if text is not None or flip:
            raise bad_option("--ms-flip", "it has its own --scales and --flip")
        return MMSEG_SCALES
    if text is None:
        return None
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(MIN_SCALE <= scale <= MAX_SCALE for scale in scales):
        raise bad_option(
            "--scales",
            f"{text!r} is not a list such as 0.5,1,1.5, each from {MIN_SCALE} to {MAX_SCALE}",
        )
    return scales


def _check_names(dataset: str, root: Path | None, split: str | None) -> None:
    from fcn_trt.evaluation.datasets import DatasetName

    parse_word(dataset, (*get_args(DatasetName), "scene"), "--dataset")
    if (dataset == "scene") != (root is None):
        needs = "takes none" if root else "needs the folder of the data set"
        raise bad_option("--root", f"{dataset} {needs}")
    if dataset == "scene":
        refuse("scene has no parts", split=split)


def _check_outputs(out: Path | None, confusion: Path | None) -> None:
    """Refuse before long work what could not be written after it."""
    if out is not None and confusion is not None and out.resolve() == confusion.resolve():
        raise bad_option("--out", "it is the name of --confusion, too")
    if out is not None:
        from fcn_trt.evaluation.record import check_record

        check_record(out)
    if confusion is not None:
        from fcn_trt.evaluation.confusion_picture import require_matplotlib
        from fcn_trt.evaluation.record import require_writable

        if confusion.suffix.lower() != ".png":
            raise bad_option("--confusion", f"{confusion} does not end in .png")
        require_writable(confusion)
        require_matplotlib()


def figures_table(title: str, found: Evaluation) -> Table:
    """IoU, accuracy and boundary F-score: their means, and of each class, in percent."""
    percent = terminal.percent
    rows = [
        ["mean", percent(found.miou), percent(found.mean_accuracy), percent(found.boundary_f)],
        ["all pixels", "", percent(found.pixel_accuracy), ""],
        *(
            [
                f"  {name}",
                percent(iou),
                percent(found.accuracy_per_class[name]),
                percent(found.boundary_f_per_class[name]),
            ]
            for name, iou in found.per_class.items()
        ),
    ]
    return terminal.table(title, ["%", "IoU", "accuracy", "boundary F"], rows)
