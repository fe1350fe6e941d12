"""A video's frames as image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fcn_trt.cli import terminal
from fcn_trt.cli.common import JsonOption, bad_option, print_json

__all__ = ["frames"]


def frames(
    video: Annotated[
        str, typer.Argument(help="Video, camera, URL, GStreamer, or scene[:SEED[:HxW]].")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the images; made if it is missing.")],
    every: Annotated[
        int | None, typer.Option(min=1, help="Save each n-th frame; all of them by default.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Save so many, spread evenly over the video.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Save so many at most.")] = None,
    kind: Annotated[
        str, typer.Option("--format", help="png, which loses nothing, jpg, bmp or webp.")
    ] = "png",
    as_json: JsonOption = False,
) -> None:
    """Save the raw frames of a video, to label them, calibrate on them or compare."""
    from fcn_trt.video.image_sink import OVERLAY_SUFFIXES
    from fcn_trt.video.saved_frames import save_frames

    if f".{kind}" not in OVERLAY_SUFFIXES:
        raise bad_option("--format", f"{kind!r} is none of png, jpg, bmp, webp")
    if count is not None and (every is not None or limit is not None):
        raise bad_option("--count", "it says already which frames; leave --every and --limit out")
    with terminal.count_bar("saving", count or limit) as bar:
        saved = save_frames(
            video, out, every=every or 1, count=count, limit=limit, suffix=f".{kind}", on_frame=bar
        )
    if as_json:
        print_json({"frames": saved, "folder": out})
    else:
        terminal.show(f"{saved} frames in {out}")
