"""From a checkpoint, or an existing ONNX file, to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    JsonOption,
    OptionalSize,
    SizeOption,
    in_words_of_options,
    parse_label_set,
    print_json,
    run_plan,
)
from fcn_trt.spec import MAX_BATCH

__all__ = ["export"]

OptionalBatch = Annotated[
    int | None, typer.Option(min=1, max=MAX_BATCH, help="Makes the batch dynamic.")
]


def export(
    model: Annotated[
        str, typer.Argument(help="Name of a model, a checkpoint that says what it is, or an .onnx.")
    ],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    size: SizeOption,
    weights: Annotated[
        str | None,
        typer.Option(help="Checkpoint, published name, or random[:SEED]; the best published one."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=MAX_BATCH, help="Images per inference.")] = 1,
    labels: Annotated[
        str | None, typer.Option(help="File with a class per line, or a known set.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Output of an .onnx to keep.")] = None,
    min_size: OptionalSize = None,
    max_size: OptionalSize = None,
    min_batch: OptionalBatch = None,
    max_batch: OptionalBatch = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint, or an existing ONNX file, as FP32 ONNX that ends at its logits."""
    from fcn_trt.pipeline.plan import Export, Plan

    with in_words_of_options():
        step = Export(
            model=model,
            size=size,
            weights=weights,
            batch=batch,
            labels=parse_label_set(labels),
            output=output,
            min_size=min_size,
            max_size=max_size,
            min_batch=min_batch,
            max_batch=max_batch,
        )
    spec = run_plan(Plan(export=step), out).spec
    if as_json:
        print_json({"network": out, "spec": spec.to_dict()})
    else:
        terminal.written(out, f"{spec.model} with weights {spec.weights}")
