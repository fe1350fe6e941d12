"""From FP32 ONNX to typed ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt import report
from fcn_trt.commands.common import (
    ImagesOption,
    JsonOption,
    parse_precision,
    print_json,
    type_network,
)
from fcn_trt.files import require_folder_of

__all__ = ["quantize"]


def quantize(
    network: Annotated[Path, typer.Argument(help="FP32 ONNX file from `fcn-trt export`.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    images: ImagesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an FP32 ONNX file as typed ONNX; both ends stay float32."""
    asked = parse_precision(precision, images)
    require_folder_of(out)
    spec = type_network(network, out, asked or "fp32", images)
    if as_json:
        print_json({"network": out, "spec": spec.to_dict()})
    else:
        report.written(out, f"{spec.model} in {spec.precision}")
