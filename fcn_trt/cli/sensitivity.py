"""Where quantising hurts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    IgnoreOption,
    JsonOption,
    LabelMapOption,
    LabelsOption,
    MethodOption,
    bad_option,
    parse_label_map,
    parse_method,
    parse_word,
    print_json,
    require_labels,
)
from fcn_trt.errors import FcnTrtError
from fcn_trt.files import require_folder_of
from fcn_trt.spec import QUANTISED, FloatPrecision

if TYPE_CHECKING:
    from fcn_trt.comparison.images import ImageChoice
    from fcn_trt.sensitivity.result import Bound, Question, Sensitivity

__all__ = ["sensitivity"]

LIMIT = 32
"""Images at most, unless another number is asked for."""


def sensitivity(
    network: Annotated[Path, typer.Argument(help="FP32 ONNX file from `fcn-trt export`.")],
    calibration: Annotated[Path, typer.Option(help="Its cache from `fcn-trt calibrate`.")],
    images: Annotated[Path, typer.Option(help="Other images than the calibrated ones.")],
    labels: LabelsOption = None,
    ignore: IgnoreOption = None,
    label_map: LabelMapOption = None,
    limit: Annotated[
        int, typer.Option(min=1, help="So many images at most, spread evenly.")
    ] = LIMIT,
    precision: Annotated[str, typer.Option(help="int8 or fp8.")] = "int8",
    method: MethodOption = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Quantise each alone, not leave each in float.")
    ] = False,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Points of mean IoU to lose at most; 0.3 with --labels."),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Percent of pixels labelled as in FP32; 99.5 without."),
    ] = None,
    float_precision: Annotated[
        str, typer.Option("--float", help="What is not quantised computes in fp32 or fp16.")
    ] = "fp32",
    out: Annotated[
        Path | None, typer.Option(help="Result to write (.json); a later run goes on from it.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Picture to write (.png): accuracy against GMAC quantised.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Recipe (.toml) to write the convolutions to keep into.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find which convolutions quantising hurts, and the fewest to keep in floating point."""
    require_labels(labels, label_map=label_map)
    bound = _bound(labels, ignore, max_drop, min_agreement)
    parse_word(precision, QUANTISED, "--precision")
    parse_word(float_precision, get_args(FloatPrecision), "--float")
    chosen_method = parse_method(method)
    if picture is not None and picture.suffix.lower() != ".png":
        raise bad_option("--picture", f"{picture} does not end in .png")
    for path in (out, picture):
        if path is not None:
            require_folder_of(path)

    from fcn_trt.comparison.images import ImageChoice
    from fcn_trt.sensitivity.result import Question

    chosen = ImageChoice(
        folder=images,
        labels=labels,
        ignore=ignore,
        said=parse_label_map(label_map),
        limit=limit,
    )
    question = Question(
        precision=cast(Any, precision),
        method=chosen_method,
        float_precision=cast(Any, float_precision),
        alone=alone,
        bound=bound,
    )
    found = _analyse(network, calibration, chosen, question, out, picture, recipe)
    _tell(found, as_json=as_json)


def _bound(
    labels: Path | None, ignore: int | None, max_drop: float | None, min_agreement: float | None
) -> Bound:
    """What may be lost; each default is the bound of what there is to measure."""
    from fcn_trt.sensitivity.result import MAX_DROP, MIN_AGREEMENT, Bound

    require_labels(labels, ignore=ignore, max_drop=max_drop)
    if max_drop is not None and min_agreement is not None:
        raise bad_option("--min-agreement", "choose it or --max-drop")
    if max_drop is None and min_agreement is None:
        max_drop, min_agreement = (None, MIN_AGREEMENT) if labels is None else (MAX_DROP, None)
    return Bound(max_drop=max_drop, min_agreement=min_agreement)


def _analyse(
    network: Path,
    calibration: Path,
    chosen: ImageChoice,
    question: Question,
    out: Path | None,
    picture: Path | None,
    recipe: Path | None,
) -> Sensitivity:
    """Measure, and write what was asked for."""
    from fcn_trt.sensitivity.analyse import analyse
    from fcn_trt.sensitivity.recipe_key import check_recipe, write_keep_float

    if picture is not None:
        import fcn_trt.sensitivity.picture  # noqa: F401  # what is missing is said before long work
    if recipe is not None:
        check_recipe(recipe, ["any"], precision=question.precision, calibration=calibration)
    bar, say = terminal.count_bar, terminal.step
    found = analyse(network, calibration, chosen, question, out=out, bar=bar, say=say)
    if out is not None:
        terminal.written(out, "the result")
    if picture is not None:
        from fcn_trt.sensitivity.picture import write_picture

        write_picture(found, picture)
        terminal.written(picture, "the picture")
    if recipe is not None and found.chosen is not None:
        write_keep_float(recipe, found.chosen.kept)
        terminal.written(recipe, f"{len(found.chosen.kept)} convolutions to keep in float")
    return found


def _tell(found: Sensitivity, *, as_json: bool) -> None:
    """Print the result on stdout, and fail where nothing keeps the bound."""
    from fcn_trt.sensitivity.summary import effect_rows, point_rows, verdict

    if as_json:
        print_json(found.to_dict())
    else:
        for title, rows in (
            (f"Convolutions of {found.model} on {found.images} images", effect_rows(found)),
            ("More and more in float, and * the smallest set", point_rows(found)),
        ):
            terminal.show(terminal.table(title, rows[0], rows[1:]))
    if found.chosen is None:
        raise FcnTrtError(verdict(found))
    if not as_json:
        terminal.show(verdict(found))
