"""From an ONNX file to an engine bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt import report
from fcn_trt.commands.common import JsonOption, needing_export, parse_precision, print_json

__all__ = ["build"]


def build(
    network: Annotated[Path, typer.Argument(help="ONNX file from `fcn-trt export`.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle to write.")],
    target: Annotated[str, typer.Option(help="openvino.")] = "openvino",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; by default as the ONNX is typed.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile an ONNX file, prove its precision, and write an engine bundle."""
    if target != "openvino":
        raise typer.BadParameter(f"{target!r} is not openvino", param_hint="'--target'")
    asked = parse_precision(precision)
    from fcn_trt.engine.openvino import build_openvino
    from fcn_trt.files import temporary_folder

    with temporary_folder() as folder:
        if asked is not None:
            typed = folder / network.name

            def run() -> None:
                from fcn_trt.export.pipeline import type_network

                type_network(network, typed, asked)

            needing_export(run)
            network = typed
        bundle = build_openvino(network, out)
    if as_json:
        print_json({"bundle": bundle.path, "manifest": bundle.manifest})
    else:
        report.written(out, "the bundle")
        report.show(report.inspection_table(bundle))
