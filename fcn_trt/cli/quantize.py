"""From FP32 ONNX to typed ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    AcceptOption,
    CalibrationOption,
    ImagesOption,
    JsonOption,
    KeepOption,
    MethodOption,
    NoCheckOption,
    parse_checking,
    parse_type,
    print_json,
    run_plan,
)

__all__ = ["quantize"]


def quantize(
    network: Annotated[Path, typer.Argument(help="FP32 ONNX file from `fcn-trt export`.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, int8 or fp8.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    calibration: CalibrationOption = None,
    method: MethodOption = None,
    keep_float: KeepOption = None,
    float_precision: Annotated[
        str | None,
        typer.Option(
            "--float", help="Type of what int8 and fp8 leave in float: fp16 (default), or fp32."
        ),
    ] = None,
    images: ImagesOption = None,
    accept: AcceptOption = None,
    no_check: NoCheckOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write an FP32 ONNX file as typed ONNX; both ends stay float32."""
    from fcn_trt.network.file import Network
    from fcn_trt.pipeline.plan import Plan

    asked = parse_type(
        precision,
        images=images,
        calibration=calibration,
        method=method,
        keep=keep_float,
        float_precision=float_precision,
        checking=parse_checking(accept, no_check),
    )
    spec = run_plan(Plan(source=Network.read(network), type=asked), out).spec
    if as_json:
        print_json({"network": out, "spec": spec.to_dict()})
    else:
        rest = f", the rest in {spec.float_precision}" if spec.float_precision else ""
        terminal.written(out, f"{spec.model} in {spec.precision}{rest}")
