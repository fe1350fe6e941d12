"""The whole main job in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, SizeOption, parse_precision, print_json
from fcn_trt.cli.evaluate import figures_table

if TYPE_CHECKING:
    from rich.table import Table

    from fcn_trt.demo.job import DemoReport

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is made.")] = Path("demo_out"),
    size: SizeOption = "256x512",
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16, bf16, int8 or fp8; by default bf16 if PyTorch and this CPU have it."
        ),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Length of the video.")] = 150,
    as_json: JsonOption = False,
) -> None:
    """Do the whole main job with nothing but this package."""
    asked = parse_precision(precision)
    from fcn_trt.demo.job import run_demo
    from fcn_trt.pipeline.run import Watcher

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
        terminal.show(_summary(done))
        terminal.show(figures_table("per class", done.evaluation))


def _summary(done: DemoReport) -> Table:
    """What the demo did, how fast, how accurate, and where the pictures are."""
    evaluation, percent = done.evaluation, terminal.percent
    export = "" if done.export_s is None else f"{done.export_s:.1f} s export, "
    return terminal.facts(
        "fcn-trt demo",
        [
            ("network", f"fcn_r18-d8, half as wide: {done.network}"),
            ("engine", f"{done.bundle}; {done.description}"),
            ("made in", f"{export}{done.build_s:.1f} s build"),
            ("speed", terminal.loop_sentence(done.loop)),
            (
                "accuracy",
                f"mean IoU {percent(evaluation.miou)} %, pixels "
                f"{percent(evaluation.pixel_accuracy)} % on {evaluation.images} unseen streets",
            ),
            ("check", done.check.describe()),
            ("video", str(done.video)),
            ("picture", f"{done.picture} (frame, prediction, exact labels)"),
        ],
    )
