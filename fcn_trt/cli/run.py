"""From a live source, through a bundle, to sinks."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import BundleArgument, JsonOption, RebuildOption, print_json, rebuild_here

__all__ = ["run"]


def run(
    bundle: BundleArgument,
    source: Annotated[
        str,
        typer.Option(help="Video, camera, folder, glob, URL, GStreamer, or scene[:SEED[:HxW]]."),
    ],
    sink: Annotated[
        list[str] | None,
        typer.Option(help="FILE.mp4, DIR/, labels:DIR, window or none; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    opacity: Annotated[float, typer.Option(min=0, max=1, help="Share of the colours.")] = 0.5,
    rebuild: RebuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment live video."""
    from fcn_trt.runtime.segmenter import Segmenter
    from fcn_trt.runtime.video import segment_video
    from fcn_trt.video.loop import LoopInterrupted
    from fcn_trt.video.source import open_source

    if rebuild:
        rebuild_here(bundle)
    with open_source(source) as frames, Segmenter.load(bundle) as segmenter:
        terminal.step(segmenter.description)
        try:
            with terminal.loop_bar(frames.info.name) as bar:
                done = segment_video(
                    segmenter, frames, sink or [], limit=limit, opacity=opacity, on_progress=bar
                )
        except LoopInterrupted as stop:
            done = stop.report
    if as_json:
        print_json(done)
    else:
        terminal.show(terminal.loop_sentence(done))
    if done.stop == "interrupted":
        sys.exit(130)  # no typer.Exit: the sentence above has said it already
