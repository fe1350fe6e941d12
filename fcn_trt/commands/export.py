"""From a checkpoint, or an existing ONNX file, to ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fcn_trt import report
from fcn_trt.commands.common import JsonOption, SizeOption, needing_export, print_json

__all__ = ["export"]


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
    batch: Annotated[int, typer.Option(min=1, help="Images per inference.")] = 1,
    labels: Annotated[str | None, typer.Option(help="Label set, instead of the own one.")] = None,
    output: Annotated[str | None, typer.Option(help="Output of an .onnx to keep.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint, or an existing ONNX file, as FP32 ONNX that ends at its logits."""

    def run() -> Any:
        from fcn_trt.export.pipeline import export_network

        return export_network(
            model, out, size=size, weights=weights, batch=batch, labels=labels, output=output
        )

    spec = needing_export(run)
    if as_json:
        print_json({"network": out, "spec": spec.to_dict()})
    else:
        report.written(out, f"{spec.model} with weights {spec.weights}")
