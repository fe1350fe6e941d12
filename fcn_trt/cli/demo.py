"""The whole main job in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    JsonOption,
    SizeOption,
    parse_precision,
    print_json,
)
from fcn_trt.cli.demo_tables import demo_parts
from fcn_trt.pipeline.run import Watcher

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is made.")] = Path("demo_out"),
    size: SizeOption = "256x512",
    precision: Annotated[
        str | None,
        typer.Option(help="fp32, fp16, bf16, int8 or fp8; bf16 by default where this CPU has it."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Length of the video.")] = 150,
    as_json: JsonOption = False,
) -> None:
    """Do the whole main job with nothing but this package."""
    asked = parse_precision(precision)
    from fcn_trt.demo.job import run_demo

    with terminal.loop_bar("segmenting") as bar:
        done = run_demo(
            out,
            size=size,
            precision=asked,
            frame_count=frames,
            on_step=terminal.step,
            watcher=Watcher(images_bar=terminal.images_step),
            on_progress=bar,
        )
    if as_json:
        print_json(done)
    else:
        for part in demo_parts(done):
            terminal.show(part)
