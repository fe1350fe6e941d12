"""How well a bundle predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from fcn_trt import report
from fcn_trt.commands.common import (
    BundleArgument,
    JsonOption,
    RebuildOption,
    print_json,
    rebuild_here,
)

__all__ = ["evaluate"]


def evaluate(
    bundle: BundleArgument,
    dataset: Annotated[str, typer.Option(help="camvid, generic, or scene (needs no --root).")],
    root: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure mean IoU and pixel accuracy on labelled images."""
    from fcn_trt.demo.held_out import HeldOutScenes
    from fcn_trt.evaluate.datasets import DatasetName, open_dataset
    from fcn_trt.evaluate.protocol import check_classes
    from fcn_trt.evaluate.protocol import evaluate as measure
    from fcn_trt.runtime.segmenter import Segmenter

    known = (*get_args(DatasetName), "scene")
    if dataset not in known:
        raise typer.BadParameter(
            f"{dataset!r} is none of {', '.join(known)}", param_hint="'--dataset'"
        )
    if (dataset == "scene") != (root is None):
        needs = "takes none" if root else "needs the folder of the data set"
        raise typer.BadParameter(f"{dataset} {needs}", param_hint="'--root'")
    if rebuild:
        rebuild_here(bundle)
    with Segmenter.load(bundle) as segmenter:
        size = segmenter.spec.input_size
        images = open_dataset(dataset, root) if root else HeldOutScenes(size=size)
        check_classes(images, segmenter.spec.classes)
        report.step(segmenter.description)
        with report.count_bar("evaluating", len(images)) as bar:
            result = measure(segmenter.stream, images, on_image=bar)
    if as_json:
        print_json(result)
    else:
        report.show(report.evaluation_table(f"{bundle} on {result.images} images", result))
