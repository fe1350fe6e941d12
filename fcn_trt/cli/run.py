"""From a live source, through a bundle, to sinks."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Any

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import (
    BundleArgument,
    JsonOption,
    RebuildOption,
    print_json,
    rebuild_here,
)
from fcn_trt.labels import palette_array

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
    from fcn_trt.video.loop import LoopInterrupted, run_loop
    from fcn_trt.video.sink import open_sink

    if rebuild:
        rebuild_here(bundle)
    with ExitStack() as stack:
        frames = stack.enter_context(_open_source(source))
        segmenter = stack.enter_context(Segmenter.load(bundle))
        sinks = [
            stack.enter_context(
                open_sink(
                    uri,
                    render=partial(segmenter.render, opacity=opacity),
                    palette=palette_array(segmenter.spec.palette),
                    rate_fps=frames.info.rate_fps,
                )
            )
            for uri in sink or ["none"]
        ]
        terminal.step(segmenter.description)
        live = frames.info.is_live
        process = partial(segmenter.stream, in_flight=1) if live else segmenter.stream
        try:
            with terminal.loop_bar(frames.info.name) as bar:
                done = run_loop(frames, process, sinks, on_progress=bar, limit=limit)
        except LoopInterrupted as stop:
            done = stop.report
    if as_json:
        print_json(done)
    else:
        terminal.show(terminal.loop_sentence(done))
    if done.stop == "interrupted":
        sys.exit(130)  # no typer.Exit: the sentence above has said it already


def _open_source(uri: str) -> Any:
    """Sources of `fcn_trt.video`, and the synthetic scene."""
    if uri == "scene" or uri.startswith("scene:"):
        from fcn_trt.video.scene_source import open_scene

        return open_scene(uri)
    from fcn_trt.video.source import open_source

    return open_source(uri)
