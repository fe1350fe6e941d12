"""How alike two stages of a model's way are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    IgnoreOption,
    JsonOption,
    LabelMapOption,
    LabelsOption,
    SizeOption,
    bad_option,
    parse_label_map,
    print_json,
    refuse,
    require_labels,
)
from fcn_trt.errors import FcnTrtError
from fcn_trt.files import require_folder_of
from fcn_trt.spec import Size

if TYPE_CHECKING:
    from fcn_trt.comparison.images import ImageChoice
    from fcn_trt.comparison.summary import Summary
    from fcn_trt.comparison.thresholds import Thresholds

__all__ = ["compare"]

Name = Annotated[
    str, typer.Argument(help="A bundle, an ONNX file, a checkpoint, or the name of a model.")
]


def compare(
    a: Name,
    b: Name,
    images: Annotated[Path, typer.Option(help="Folder of the images, or a video.")],
    labels: LabelsOption = None,
    ignore: IgnoreOption = None,
    label_map: LabelMapOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many images at most, spread evenly.")
    ] = None,
    size: SizeOption = None,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint where A or B is the name of a model.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--report", help="Page to write: FILE.html or FILE.md.")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=100, help="Fail below so many percent of the pixels.")
    ] = None,
    min_boundary: Annotated[
        float | None, typer.Option(min=0, max=100, help="The same of those near a boundary of A.")
    ] = None,
    max_miou_drop: Annotated[
        float | None, typer.Option(min=0, help="Fail if B loses more points of mean IoU than that.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare what two models label, each a checkpoint, ONNX, typed ONNX or bundle."""
    from fcn_trt.comparison.images import ImageChoice
    from fcn_trt.comparison.page import write_page
    from fcn_trt.comparison.thresholds import Thresholds

    limits = Thresholds(
        min_agreement=min_agreement, min_boundary=min_boundary, max_miou_drop=max_miou_drop
    )
    _check_usage((a, b), size, weights, page)
    require_labels(labels, ignore=ignore, label_map=label_map, max_miou_drop=max_miou_drop)
    if page is not None:
        require_folder_of(page)
    chosen = ImageChoice(
        folder=images,
        labels=labels,
        ignore=ignore,
        said=parse_label_map(label_map),
        limit=limit,
    )
    found = _measure((a, b), size, weights, chosen, limits)
    _say(found, as_json=as_json)
    if page is not None:
        write_page(found, page)
        terminal.written(page, "the report")
    failed = [verdict.describe() for verdict in found.verdicts if not verdict.passed]
    if failed:
        raise FcnTrtError(f"{b} differs too much from {a}: {'; '.join(failed)}")


def _check_usage(
    names: tuple[str, str], size: Size | None, weights: str | None, page: Path | None
) -> None:
    """Refuse options that do not fit A and B, before either is opened."""
    from fcn_trt.comparison.page import PAGE_SUFFIXES
    from fcn_trt.comparison.predictor import kind_of

    checkpoints = [kind_of(name) for name in names].count("torch")
    if checkpoints == 0 and size is not None:
        raise bad_option("--size", "ONNX files and bundles have their own")
    if checkpoints == 2 and size is None:
        raise bad_option("--size", "two checkpoints need it")
    if checkpoints == 0:
        refuse("neither A nor B is a model", weights=weights)
    if page is not None and page.suffix.lower() not in PAGE_SUFFIXES:
        raise bad_option("--report", f"{page} does not end in {' or '.join(PAGE_SUFFIXES)}")


def _measure(
    names: tuple[str, str],
    size: Size | None,
    weights: str | None,
    chosen: ImageChoice,
    limits: Thresholds,
) -> Summary:
    """Open both and run them over the images."""
    from fcn_trt.comparison.measure import compare as run_both
    from fcn_trt.comparison.pictures import draw_panels
    from fcn_trt.comparison.predictor import open_predictors
    from fcn_trt.comparison.summary import Summary
    from fcn_trt.labels import palette_array

    chosen.stills()  # what is missing there is said before engines are built
    with open_predictors(*names, size=size, weights=weights) as (first, second):
        images = chosen.find(first.spec)
        palette = palette_array(first.spec.palette)
        for letter, predictor in (("A", first), ("B", second)):
            terminal.step(f"{letter}: {predictor.name}: {predictor.description}")
        with terminal.count_bar("comparing", len(images)) as bar:
            comparison = run_both(
                first,
                second,
                images,
                draw=lambda image, here, there: draw_panels(image.frame, here, there, palette),
                on_image=bar,
            )
    return Summary(
        first=first,
        second=second,
        images=str(chosen.folder),
        comparison=comparison,
        verdicts=limits.verdicts(comparison),
    )


def _say(page: Summary, *, as_json: bool) -> None:
    """Print the result on stdout, and what is to be known about it on stderr."""
    from fcn_trt.comparison.summary import class_rows, summary_rows, worst_rows

    for remark in page.remarks:
        terminal.step(remark)
    if as_json:
        print_json(page.to_dict())
        return
    found = page.comparison
    terminal.show(f"A: {page.first.name}")
    terminal.show(f"B: {page.second.name}")
    for title, rows in (
        (f"Labels on {found.images} images", summary_rows(found)),
        ("Classes, in percent", class_rows(found)),
        ("Images with the least agreement, in percent", worst_rows(found)),
    ):
        if len(rows) > 1:
            terminal.show(terminal.table(title, rows[0], rows[1:]))
